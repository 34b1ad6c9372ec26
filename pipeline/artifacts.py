"""Finished artifacts, opened to be run: a variant's folder with its manifest, or a bare package or bundle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.types import QuernError, Runner


@dataclass(frozen=True)
class Opened:
    """An artifact as a function.

    network   its name in variants.yaml; empty where there is no manifest to say
    form      the options of its form, as in the manifest
    inputs    name → shape; an axis whose length the caller chooses is (least, most)
    outputs   their names
    weights   "trained", "synthetic" or "none"; empty where there is no manifest to say
    """

    path: Path
    network: str
    form: Mapping[str, Any]
    inputs: Mapping[str, tuple[int | tuple[int, int], ...]]
    outputs: tuple[str, ...]
    runner: Runner
    weights: str = ""


def open_artifact(path: Path) -> Opened:
    """Return what is at `path`: a folder with manifest.json, the artifact in one, or any `.mlpackage` or `.mlmodelc`.

    Raises QuernError for anything else, and MilError for a model that cannot be read.
    """
    if (path / "manifest.json").is_file():
        return _from_manifest(path)
    if not path.exists():
        raise QuernError(f"{path}: there is no such artifact; `python build_all_variants.py` makes some")
    if path.suffix in (".mlpackage", ".mlmodelc"):
        return _bare(path)
    if path.suffix in _suffixes() and (path.parent / "manifest.json").is_file():
        return _from_manifest(path.parent)
    within = ", ".join(sorted(manifest.parent.name for manifest in path.glob("*/manifest.json")))
    raise QuernError(
        f"{path}: expected the folder of an artifact, with its manifest.json, or a .mlpackage or .mlmodelc"
        + (f"; it holds such folders: {within}" if within else "")
    )


def _suffixes() -> tuple[str, ...]:
    return tuple(plugins.format_(name).SUFFIX for name in plugins.names("format"))


def _from_manifest(folder: Path) -> Opened:
    try:
        facts = json.loads((folder / "manifest.json").read_text())
        target = plugins.format_(facts["format"])
        inputs = {tensor["name"]: tuple(_length(size) for size in tensor["shape"]) for tensor in facts["inputs"]}
        outputs = tuple(tensor["name"] for tensor in facts["outputs"])
        network, form, weights = facts["network"], facts["form"], facts["checkpoint"]["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise QuernError(f"{folder / 'manifest.json'}: not the manifest of an artifact ({error!r})") from None
    artifact = next(folder.glob(f"*{target.SUFFIX}"), None)
    if artifact is None:
        raise QuernError(f"{folder}: its manifest says {facts['format']}, and there is no *{target.SUFFIX}")
    if missing := target.missing():
        raise QuernError(f"{folder}: needs {missing}")
    return Opened(artifact, network, form, inputs, outputs, target.runner(artifact, "declared"), weights)


def _length(size: int | Mapping[str, int]) -> int | tuple[int, int]:
    return size if isinstance(size, int) else (size["low"], size["high"])


def _bare(path: Path) -> Opened:
    import mil

    program = mil.load(path)
    inputs: dict[str, tuple[int | tuple[int, int], ...]] = {}
    for feature in program.inputs():
        declared = feature.ranges or [(size or 1, size or 1) for size in feature.type.shape or ()]
        inputs[feature.name] = tuple(low if low == high else (low, high or low) for low, high in declared)
    return Opened(path, "", {}, inputs, program.outputs(), program.run)
