"""One table of all runners: how true each is to upstream, by checkpoint and precision, from manifests and checks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline import plugins
from pipeline.page.rows import Row
from pipeline.truth import number

TORCH = "torch"
CHECKS = ("parity", "embedding", "streaming", "equality")


@dataclass(frozen=True)
class Column:
    """A measurement by the checks that make it; of several artifacts, the worst counts."""

    title: str
    names: tuple[str, ...]
    worst: Callable[[Iterable[float]], float]


COLUMNS = (
    Column("same speakers", ("parity.argmax",), min),
    Column("worst window", ("parity.argmax_worst_window",), min),
    Column("same decisions", ("streaming.agreement",), min),
    Column("worst cosine", ("embedding.cosine_worst",), min),
    Column("largest difference", ("parity.max_difference", "equality.max_difference"), max),
    Column("rewrite", tuple(f"{check}.rewrite" for check in CHECKS), max),
    Column("convert", tuple(f"{check}.convert" for check in CHECKS), max),
    Column("error %", ("der.error",), max),
    Column("error points", ("der.cost",), max),
)
HEAD = ("checkpoint", "runner", "precision", "artifacts", "against", *(column.title for column in COLUMNS))


@dataclass(frozen=True)
class Line:
    """What one runner made of the artifacts of one checkpoint and precision that were measured alike.

    against   the rungs that they were held against: upstream, or what there was of the ladder below it
    values    the worst of each column that was measured, by its title
    """

    checkpoint: str
    runner: str
    precision: str
    artifacts: int
    against: str
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as text, in the order of HEAD."""
        values = (number(self.values.get(column.title)) for column in COLUMNS)
        return (self.checkpoint, self.runner, self.precision, str(self.artifacts), self.against, *values)


def lines(rows: Sequence[Row]) -> list[Line]:
    """Return the table, torch first in each checkpoint: our network, before any conversion."""
    groups: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        if checks := _checks(row):
            groups.setdefault((_source(row), checks), []).append(row)
    return [line for (source, _), found in sorted(groups.items()) for line in _of_source(source, found)]


def _of_source(source: str, rows: Sequence[Row]) -> Iterator[Line]:
    """Yield the lines of artifacts of one checkpoint that were measured by the same checks."""
    rewritten = [row for row in rows if "rewrite" in _values([row])]
    if rewritten:
        values = {"largest difference": _values(rewritten)["rewrite"]}
        yield Line(source, TORCH, "fp32", len(rewritten), "upstream", values)
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((plugins.format_(row.format).RUNNER, row.precision), []).append(row)
    for (runner, precision), found in sorted(parts.items(), key=lambda part: part[0][0]):
        yield Line(source, runner, precision, len(found), _against(found), _values(found))


def _source(row: Row) -> str:
    return row.checkpoint if row.weights != "synthetic" else f"{row.checkpoint} (stand-in)"


def _checks(row: Row) -> tuple[str, ...]:
    """Return the checks that held a row against its upstream, and measured something."""
    measured = {name.split(".")[0] for name, result in row.checks.items() if result["measured"] is not None}
    return tuple(check for check in CHECKS if check in measured)


def _against(rows: Iterable[Row]) -> str:
    """Return the rungs that the artifacts were held against, as the details of checks name them."""
    details = [result["detail"] for row in rows for result in row.checks.values()]
    ends = [row.detail(f"{check}.max_difference").get("from") for row in rows for check in CHECKS]
    return ", ".join(sorted({detail["against"] for detail in details if "against" in detail} | {*filter(None, ends)}))


def _values(rows: Sequence[Row]) -> dict[str, float]:
    found = {
        column.title: [value for row in rows for name in column.names if (value := row.measured(name)) is not None]
        for column in COLUMNS
    }
    return {column.title: column.worst(found[column.title]) for column in COLUMNS if found[column.title]}


def table(found: Sequence[Line]) -> list[tuple[str, ...]]:
    """Return the head and a row for each line, without columns in which no line has anything."""
    rows = [HEAD, *(line.cells for line in found)]
    kept = [place for place in range(len(HEAD)) if any(row[place] != "–" for row in rows[1:])]
    return [tuple(row[place] for place in kept) for row in rows]
