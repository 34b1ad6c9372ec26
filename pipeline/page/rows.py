"""What the manifests and checks of a folder of artifacts say, one row for each artifact."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.truth import truth

LADDER = ("rewrite", "convert", "precision")


@dataclass(frozen=True)
class Row:
    """One artifact.

    precision  the type it computes in, and what was done to its weights
    size_mb    of the package alone: the bundle beside it is the same model in another form
    checks     results by name, as in checks.json
    """

    variant: str
    checkpoint: str
    network: str
    format: str
    precision: str
    weights: str
    licence: str
    size_mb: float
    checks: Mapping[str, Mapping[str, Any]]

    @property
    def verdict(self) -> str:
        outcomes = [result["outcome"] for result in self.checks.values()]
        if "fail" in outcomes:
            return "fail"
        if not outcomes:
            return "unverified"
        blocked = any(r["outcome"] == "not run" and r["required"] == "build" for r in self.checks.values())
        return "not run" if blocked else "pass"

    def count(self, outcome: str) -> int:
        return sum(result["outcome"] == outcome for result in self.checks.values())

    def measured(self, name: str) -> float | None:
        found = self.checks.get(name)
        return None if found is None else found["measured"]

    def detail(self, name: str) -> Mapping[str, Any]:
        found = self.checks.get(name)
        return {} if found is None else found["detail"]

    @property
    def faithful(self) -> tuple[str, float] | None:
        """What says how true the artifact is, and its value; None where nothing does."""
        return truth({name: result["measured"] for name, result in self.checks.items()})

    @property
    def ladder(self) -> dict[str, float]:
        """The differences between neighbouring rungs, of the first check that measured any."""
        for check in ("parity", "streaming", "embedding", "equality"):
            found = {step: self.measured(f"{check}.{step}") for step in LADDER}
            if any(value is not None for value in found.values()):
                return {step: value for step, value in found.items() if value is not None}
        return {}


def read_rows(out: Path) -> list[Row]:
    """Return a row for every artifact in a folder, in the order of their names."""
    folders = (path.parent for path in out.glob("*/*/manifest.json") if not path.parent.name.startswith("."))
    return [_row(folder) for folder in sorted(folders)]


def _row(folder: Path) -> Row:
    facts = json.loads((folder / "manifest.json").read_text())
    results = json.loads((folder / "checks.json").read_text())
    return Row(
        variant=facts["variant"],
        checkpoint=facts["checkpoint"]["id"],
        network=facts["network"],
        format=facts["format"],
        precision=_precision(facts),
        weights=facts["checkpoint"]["weights"],
        licence=facts["checkpoint"]["licence"],
        size_mb=package_bytes(facts) / 1e6,
        checks={result["name"]: result for result in results},
    )


def _precision(facts: Mapping[str, Any]) -> str:
    passes = (f"{each['name']} {each['options'].get('nbits', '')}".rstrip() for each in facts["optimize"])
    return ", ".join([facts["convert"]["precision"], *passes])


def package_bytes(facts: Mapping[str, Any]) -> int:
    """Return the size of an artifact without its compiled form, from its manifest."""
    return sum(entry["size_bytes"] for name, entry in facts["files"].items() if ".mlmodelc/" not in name)


def networks(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows by network, in the order of the networks' names."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.network):
        found.setdefault(row.network, []).append(row)
    return found
