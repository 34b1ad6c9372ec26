"""The provenance of a release, put together from manifests, checks and git."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import provenance
from pipeline.line import Built
from pipeline.publish.release import File, Piece, Release
from pipeline.publish.revision import Revision
from pipeline.types import Checkpoint, CheckResult
from pipeline.weights import Source, input_digest

_RECIPE = (
    "network",
    "form",
    "format",
    "convert",
    "compute_units",
    "optimize",
    "functions",
    "compiler",
    "tools",
    "inputs",
    "outputs",
)


def document(
    release: Release, revision: Revision, matrix: Path, recordings: Sequence[Path], written: Mapping[str, File]
) -> dict[str, Any]:
    """Return the provenance of a release; `written` are the files of it that stand beside its artifacts."""
    inputs = {found["id"]: found for piece in release.pieces for found in _inputs(piece.built)}
    return {
        "schema": provenance.VERSION,
        "repository": release.repository,
        "code": {"url": revision.url, "revision": revision.commit, "matrix": {"sha256": input_digest(matrix)}},
        "recordings": {path.name: {"sha256": input_digest(path)} for path in sorted(recordings)},
        "inputs": [inputs[id_] for id_ in sorted(inputs)],
        "artifacts": [_artifact(piece) for piece in release.pieces],
        "files": _files(written),
    }


def _inputs(built: Built) -> list[dict[str, Any]]:
    checkpoint = built.variant.checkpoint
    parts = checkpoint.parts or (checkpoint,)
    return [_input(part, built.weights.parts.get(part.id, built.weights)) for part in parts]


def _input(checkpoint: Checkpoint, source: Source) -> dict[str, Any]:
    return {
        "id": checkpoint.id,
        "weights": source.kind,
        "licence": checkpoint.licence,
        "repository": checkpoint.repository or None,
        "revision": checkpoint.revision if checkpoint.repository else None,
        "files": {name: {"sha256": digest} for name, digest in sorted(source.digests.items())},
    }


def _artifact(piece: Piece) -> dict[str, Any]:
    built, facts = piece.built, piece.built.facts
    assert built.variant.publish is not None
    checkpoint = built.variant.checkpoint
    return {
        "variant": built.variant.id,
        "path": built.variant.publish.path,
        "made_from": [part.id for part in checkpoint.parts or (checkpoint,)],
        **{name: facts[name] for name in _RECIPE},
        "steps": facts["steps"],
        "files": _files(piece.files),
        "checks": [_check(result) for result in built.results],
    }


def _files(files: Mapping[str, File]) -> dict[str, Any]:
    return {path: {"sha256": f.sha256, "size_bytes": f.size_bytes} for path, f in sorted(files.items())}


def _check(result: CheckResult) -> dict[str, Any]:
    told = {
        "name": result.name,
        "measured": result.measured,
        "unit": result.unit,
        "limit": result.limit,
        "outcome": result.outcome,
        "note": result.note,
    }
    elsewhere = result.detail.get("measured_on")
    return told | ({"measured_on": elsewhere} if elsewhere else {})
