"""The table of variants in README.md, written from the manifests and checks of a build.

python -m pipeline.readme [OUT]     puts the table of OUT (default: artifacts) into README.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.code import ROOT
from pipeline.page.rows import read_rows
from pipeline.truth import number
from pipeline.types import QuernError

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = ("variant", "package MB", "truth", "error points", "pass / fail / not run")


def table(out: Path) -> Iterator[str]:
    """Yield the lines of a Markdown table of every artifact in a folder that was made from trained weights."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|--:|---|--:|--:|"
    for row in (found for found in read_rows(out) if found.weights == "trained"):
        truth = "–" if row.faithful is None else f"{row.faithful[0]} {number(row.faithful[1])}"
        cost = row.measured("der.cost")
        points = "–" if cost is None else f"{cost:+.2f}"
        counts = " / ".join(str(row.count(word)) for word in ("pass", "fail", "not run"))
        yield f"| `{row.variant}` | {row.size_mb:.2f} | {truth} | {points} | {counts} |"


def with_table(readme: str, lines: list[str]) -> str:
    """Return the README with the lines in the place of its table."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise QuernError(f"README.md: expected the marks {BEGIN} and {END} around the table")
    return "\n".join([before + begin, *lines, end + after])


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "artifacts"
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), list(table(out))))


if __name__ == "__main__":
    main()
