"""What an artifact is: its inputs, its making and its files. The same inputs give the same manifest, byte for byte.

A manifest holds no clock, no host and nothing that follows from a measured number, for the last digits of those differ
between processors; they stand in `run.json` and `checks.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline import plugins
from pipeline.types import Artifact, ComputeUnits, Pass, Taken, Variant
from pipeline.versions import versions
from pipeline.weights import SEED, Source

SCHEMA = 1


def manifest(
    variant: Variant,
    source: Source,
    taken: Sequence[Taken],
    decided: Sequence[Any],
    package: Artifact,
    bundle: Artifact | None,
    beside: Artifact | None,
    compiler: str,
) -> dict[str, Any]:
    """Return the manifest of a variant, ready to be written as JSON; `decided` by each pass, or None."""
    network, target = plugins.network(variant.network), plugins.format_(variant.format)
    checkpoint = variant.checkpoint
    return _plain(
        {
            "schema": SCHEMA,
            "variant": variant.id,
            "network": variant.network,
            "checkpoint": {
                "id": checkpoint.id,
                "weights": source.kind,
                "licence": checkpoint.licence,
                "repository": checkpoint.repository or None,
                "revision": checkpoint.revision if checkpoint.repository else None,
                "files": {"seed": SEED} if source.kind == "synthetic" else dict(source.digests),
            },
            "functions": {name: part.id for name, part in variant.functions.items()},
            "form": variant.form,
            "inputs": network.inputs(variant.form),
            "outputs": network.outputs(variant.form),
            "format": variant.format,
            "convert": variant.convert,
            "compute_units": _compute_units(variant),
            "optimize": [_pass(*each) for each in zip(variant.optimize, decided, strict=True)],
            "compiler": target.compiler(compiler),
            "tools": versions("torch", "numpy", *target.TOOLS),
            "steps": [{"stage": s.stage, "name": s.name, "key": s.key} for s in taken if s.stage != "verify"],
            "files": _files(variant, package, bundle) | (_listed(beside, "", "") if beside else {}),
        }
    )


def _compute_units(variant: Variant) -> dict[str, ComputeUnits]:
    """Return what is recommended for each function; that of a program of one function is called main."""
    parts = variant.functions or {"main": variant}
    return {name: part.compute_units for name, part in parts.items() if part.compute_units}


def _pass(declared: Pass, decided: Any) -> dict[str, Any]:
    return asdict(declared) | ({} if decided is None else {"decided": decided})


def _files(variant: Variant, package: Artifact, bundle: Artifact | None) -> dict[str, Any]:
    """Return sha256 and size of every file, by its path in the variant's folder."""
    suffix = plugins.format_(variant.format).SUFFIX
    found = _listed(package, f"model{suffix}", f"{variant.file}{suffix}")
    return found | (_listed(bundle, "", "") if bundle else {})


def _listed(artifact: Artifact, inside: str, becomes: str) -> dict[str, Any]:
    listing = json.loads((artifact.path / "files.json").read_text())["files"]
    return {
        f"{becomes}{name.removeprefix(inside)}": {"sha256": entry["sha256"], "size_bytes": entry["size"]}
        for name, entry in sorted(listing.items())
        if name.startswith(inside)
    }


def _plain(record: Any) -> Any:
    """Return a record as JSON would give it back, so that records and files can be compared."""
    return json.loads(json.dumps(record, default=asdict))
