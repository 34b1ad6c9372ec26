"""README.md of a folder of artifacts: the table of the report, for people who read files."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.page.rows import networks, read_rows
from pipeline.page.runners import lines, table
from pipeline.truth import number

_COLUMNS = ("variant", "weights", "MB", "truth", "pass / fail / not run", "verdict")


def readme(out: Path) -> str:
    """Return the Markdown of a folder of artifacts."""
    return "\n".join(_lines(out)) + "\n"


def _lines(out: Path) -> Iterator[str]:
    yield "# Artifacts"
    yield ""
    yield "Made by `build_all_variants.py`; report.html says more, and each folder's manifest.json what it is made of."
    found = read_rows(out)
    if told := lines(found):
        head, *body = table(told)
        yield from ("", "## All runners", "", "The worst of the artifacts of a precision, on the same recordings.", "")
        yield f"| {' | '.join(head)} |"
        yield f"|{'---|' * len(head)}"
        yield from (f"| {' | '.join(cells)} |" for cells in body)
    for network, rows in networks(found).items():
        yield from ("", f"## {network}", "")
        yield f"| {' | '.join(_COLUMNS)} |"
        yield "|---|---|--:|---|---|---|"
        for row in rows:
            truth = "–" if row.faithful is None else f"{row.faithful[0]} {number(row.faithful[1])}"
            counts = " / ".join(str(row.count(word)) for word in ("pass", "fail", "not run"))
            yield f"| `{row.variant}` | {row.weights} | {row.size_mb:.2f} | {truth} | {counts} | {row.verdict} |"
