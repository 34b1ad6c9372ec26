"""The table of variants in README.md, written from the manifests and checks of a build.

python -m pipeline.readme [OUT]     puts the table of OUT (default: artifacts) into README.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import marks
from pipeline.code import ROOT
from pipeline.page.rows import read_rows
from pipeline.truth import number

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


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "artifacts"
    marks.put(ROOT / "README.md", "table", "\n".join(table(out)))


if __name__ == "__main__":
    main()
