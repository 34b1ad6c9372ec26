"""The table of variants in README.md, written from the manifests and checks of a build.

python -m pipeline.readme [OUT]     puts the table of OUT (default: artifacts) into README.md
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.code import ROOT
from pipeline.truth import number, truth
from pipeline.types import QuernError

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = ("variant", "package MB", "truth", "error points", "pass / fail / not run")


def table(out: Path) -> Iterator[str]:
    """Yield the lines of a Markdown table of every artifact in a folder that was made from trained weights."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|--:|---|--:|--:|"
    index = json.loads((out / "index.json").read_text())
    for entry in (found for found in index["variants"] if found["weights"] == "trained"):
        results = {r["name"]: r for r in json.loads((out / entry["folder"] / "checks.json").read_text())}
        counts = " / ".join(str(entry["checks"].get(word, 0)) for word in ("pass", "fail", "not run"))
        found = truth({name: result["measured"] for name, result in results.items()})
        true = "–" if found is None else f"{found[0]} {number(found[1])}"
        cost = results.get("der.cost", {}).get("measured")
        points = "–" if cost is None else f"{cost:+.2f}"
        size = results["size.package"]["measured"]
        yield f"| `{entry['variant']}` | {size:.2f} | {true} | {points} | {counts} |"


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
