"""What a build tells: lines while it works, a table and its reasons at the end, or one JSON document."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.line import Built
from pipeline.schedule import Ending, Failed, NotInstalled
from pipeline.truth import number, truth
from pipeline.types import CheckResult
from pipeline.verdict import blocks

WIDTH = 58


def verdict(outcome: Ending) -> str:
    """Return the word for a variant as a whole: pass, fail, not run, error, or unverified where nothing was checked."""
    if isinstance(outcome, Failed):
        return "error"
    if isinstance(outcome, NotInstalled):
        return "not run"
    if not outcome.results:
        return "unverified"
    if any(result.outcome == "fail" for result in outcome.results):
        return "fail"
    return "not run" if any(blocks(result, "build") for result in outcome.results) else "pass"


def status(outcomes: Sequence[Ending]) -> int:
    """Return the exit status of a build: 0, or 1 if a check failed, or that of the first variant that broke.

    Variants whose format is not installed do not count: nobody asked for them by name.
    """
    broken = [outcome.status for outcome in outcomes if isinstance(outcome, Failed)]
    built = [outcome for outcome in outcomes if isinstance(outcome, Built)]
    return broken[0] if broken else int(any(verdict(outcome) in ("fail", "not run") for outcome in built))


def dotted(name: str) -> str:
    """Return the name of a variant, and dots up to the column of outcomes."""
    return f"{name} {'.' * max(3, WIDTH - len(name))} "


def line(outcome: Ending, fresh: bool) -> str:
    """Return what stands after the dots when a variant is done."""
    if isinstance(outcome, Failed):
        return f"error: {outcome.reason}"
    if isinstance(outcome, NotInstalled):
        return f"not run: {outcome.command}"
    seconds = sum(step.seconds or 0 for step in outcome.taken)
    return verdict(outcome) + (" (up to date)" if fresh else f" ({seconds:.1f} s)")


def table(outcomes: Sequence[Ending]) -> Iterator[str]:
    """Yield the matrix as lines of text: what was built, how large and how true it is, and what was found."""
    head = ("variant", "weights", "MB", "truth", "pass", "fail", "not run", "verdict")
    rows = [head, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells).rstrip()


def reasons(outcomes: Sequence[Ending]) -> Iterator[str]:
    """Yield every failure with its place, then why checks were not run, with counts."""
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            yield f"{outcome.variant.id}: {outcome.reason}"
        elif isinstance(outcome, Built):
            yield from (f"{outcome.variant.id}: {_failure(r)}" for r in outcome.results if r.outcome == "fail")
    commands = Counter((o.variant.format, o.command) for o in outcomes if isinstance(o, NotInstalled))
    yield from (f"not run: {count} variants of format {name}: {command}" for (name, command), count in commands.items())
    results = [result for outcome in outcomes if isinstance(outcome, Built) for result in outcome.results]
    for (name, note), count in sorted(Counter((r.name, r.note) for r in results if r.outcome == "not run").items()):
        required = any(r.required == "build" for r in results if (r.name, r.note, r.outcome) == (name, note, "not run"))
        yield f"not run: {name} ({count}{', required' if required else ''}): {note}"


def document(outcomes: Sequence[Ending]) -> str:
    """Return everything as one JSON document."""
    return json.dumps({"status": status(outcomes), "variants": [_record(o) for o in outcomes]}, indent=2)


def write_index(out: Path) -> None:
    """Write index.json, report.html and README.md: every artifact in the folder, whichever build put it there."""
    from pipeline import page
    from pipeline.assemble import write_json

    manifests = sorted(path for path in out.glob("*/*/manifest.json") if not path.parent.name.startswith("."))
    write_json(out / "index.json", {"variants": [_entry(path.parent) for path in manifests]})
    page.write(out)


def _failure(result: CheckResult) -> str:
    measured = "no number" if result.measured is None else f"{result.measured:.6g}"
    return f"{result.name}: {measured} {result.unit}, limit {result.limit}: {result.note}"


def _row(outcome: Ending) -> tuple[str, ...]:
    if not isinstance(outcome, Built):
        return (outcome.variant.id, *["–"] * 6, verdict(outcome))
    found = truth({result.name: result.measured for result in outcome.results})
    counts = Counter(result.outcome for result in outcome.results)
    return (
        outcome.variant.id,
        outcome.weights.kind,
        f"{_size_mb(outcome.facts):.2f}" if outcome.facts else "–",
        "–" if found is None else f"{number(found[1])} {found[0]}",
        *(str(counts[word]) for word in ("pass", "fail", "not run")),
        verdict(outcome),
    )


def _size_mb(facts: Mapping[str, Any]) -> float:
    """Return the size of the package alone: the bundle beside it is the same model in another form."""
    compiled = (".mlmodelc/",)
    return sum(e["size_bytes"] for name, e in facts["files"].items() if not any(c in name for c in compiled)) / 1e6


def _record(outcome: Ending) -> dict[str, Any]:
    if isinstance(outcome, NotInstalled):
        return {"variant": outcome.variant.id, "verdict": "not run", "reason": outcome.command}
    if isinstance(outcome, Failed):
        return {"variant": outcome.variant.id, "verdict": "error", "reason": outcome.reason, "status": outcome.status}
    return {
        "variant": outcome.variant.id,
        "verdict": verdict(outcome),
        "weights": outcome.weights.kind,
        "folder": str(outcome.folder) if outcome.folder else None,
        "checks": [asdict(result) for result in outcome.results],
        "steps": [asdict(step) for step in outcome.taken],
        "files": outcome.facts.get("files", {}),
    }


def _entry(folder: Path) -> dict[str, Any]:
    facts = json.loads((folder / "manifest.json").read_text())
    checks = json.loads((folder / "checks.json").read_text())
    return {
        "variant": facts["variant"],
        "weights": facts["checkpoint"]["weights"],
        "licence": facts["checkpoint"]["licence"],
        "format": facts["format"],
        "folder": f"{folder.parent.name}/{folder.name}",
        "size_bytes": sum(entry["size_bytes"] for entry in facts["files"].values()),
        "checks": dict(Counter(result["outcome"] for result in checks)),
    }
