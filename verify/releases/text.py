"""The rows of a comparison as a table to read, and as JSON."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from verify.releases.rows import Row

_MOST_NOTES = 8


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each model, what was found below its row, and a line that sums up."""
    width = max((len(row.check) for row in rows), default=0)
    for name, group in groupby(rows, key=lambda row: row.model):
        yield f"{name}"
        yield f"  {'':{width}}  {'old':>10}  {'new':>10}  {'limit':>14}  outcome"
        for row in group:
            yield from _lines(row, width)
        yield ""
    yield closing(rows)


def _lines(row: Row, width: int) -> Iterator[str]:
    cells = f"{_number(row.old):>10}  {_number(row.new):>10}  {row.limit:>14}"
    short = row.notes[0] if len(row.notes) == 1 and row.outcome in (None, "pass") else ""
    yield f"  {row.check:{width}}  {cells}  {row.outcome or '':8}{row.unit}{f'  ({short})' if short else ''}".rstrip()
    if not short:
        yield from (f"      {note}" for note in row.notes[:_MOST_NOTES])
        if len(row.notes) > _MOST_NOTES:
            yield f"      and {len(row.notes) - _MOST_NOTES} more"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def closing(rows: Sequence[Row]) -> str:
    """Return how many comparisons came out how."""
    counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in ("pass", "fail", "not run")}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return f"{told}: {'something is worse' if counts['fail'] else 'nothing is worse'}"


def document(rows: Sequence[Row], status: int) -> dict[str, Any]:
    """Return the rows as JSON has them; numbers that it has none for are null."""
    return {"status": status, "rows": [_plain(asdict(row)) for row in rows]}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    infinite = {key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
    return {key: None if key in infinite else value for key, value in row.items()}
