"""What each weight costs at each width, and the best assignments of all sizes, from the findings of mixed_palette.

    python -m benchmarks.palette_response FINDINGS.json --out FOLDER

`findings.json` lies in the store beside the package that the pass wrote. FOLDER gets `response.json` (the numbers),
and, where matplotlib is installed (it comes with the extra `reference`), `response.png`: left, the divergence of the
outputs with one weight alone at each width; right, the front of size and summed divergence, and what was chosen.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("findings", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    chosen = parser.parse_args(arguments)
    try:
        data = response(json.loads(chosen.findings.read_text()))
    except (OSError, ValueError, KeyError) as error:
        print(f"{chosen.findings}: no findings of a search of mixed_palette: {error}", file=sys.stderr)
        return 2
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "response.json").write_text(json.dumps(data, indent=1))
    try:
        draw(data, chosen.out / "response.png")
    except ImportError as error:
        print(f"response.png: not drawn: matplotlib is not installed ({error}); pip install 'quern[reference]'")
    return 0


def response(findings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is drawn: costs by weight and width, the front as [MB, cost], and the chosen assignment."""
    return {
        "sensitivity": findings["sensitivity"],
        "front": [[size / 1e6, cost] for size, cost in findings["curve"]],
        "chosen_mb": findings["weight_bytes"]["after"] / 1e6,
        "assignment": findings["decided"]["assignment"],
        "measured": findings["measured"],
    }


def draw(data: Mapping[str, Any], path: Path) -> None:
    """Draw the response and the front; raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(15, 6), layout="constrained")
    for name, costs in sorted(data["sensitivity"].items()):
        widths = sorted(map(int, costs))
        left.plot(widths, [costs[str(width)] for width in widths], marker=".", linewidth=1, label=name)
    left.set(xlabel="bits of an index", ylabel="divergence, this weight alone", yscale="log")
    left.legend(fontsize=6, ncols=2)
    front = [(size, cost) for size, cost in data["front"] if cost > 0]
    right.plot([size for size, _ in front], [cost for _, cost in front], linewidth=1)
    right.axvline(data["chosen_mb"], linestyle="--", linewidth=1, color="gray")
    right.set(xlabel="weight files, MB", ylabel="sum of divergences", yscale="log")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
