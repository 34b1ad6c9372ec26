"""The last step: a variant's folder of files, linked from the store, whole or not there."""

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mil.links import link_tree
from pipeline import plugins, steps
from pipeline.store import file_names
from pipeline.types import Artifact, CheckResult, Taken, Variant
from pipeline.weights import Source


def is_assembled(folder: Path, facts: Mapping[str, Any], results: Sequence[CheckResult]) -> bool:
    """Return whether a folder already holds exactly this artifact and these results."""
    return (
        _read(folder / "manifest.json") == facts
        and _read(folder / "checks.json") == _checks(results)
        and all(_size(folder / name) == entry["size_bytes"] for name, entry in facts["files"].items())
    )


def assemble(
    folder: Path,
    variant: Variant,
    package: Artifact,
    bundle: Artifact | None,
    beside: Artifact | None,
    facts: Mapping[str, Any],
    results: Sequence[CheckResult],
    source: Source,
    taken: Sequence[Taken],
) -> None:
    """Make the folder of a variant: package, bundle, the files beside them, manifest.json, checks.json, run.json."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{variant.name}-", dir=folder.parent))
    try:
        suffix = plugins.format_(variant.format).SUFFIX
        link_tree(steps.artifact_path(package.path, variant), draft / f"{variant.file}{suffix}")
        if bundle:
            compiled = steps.bundle_path(bundle.path, variant)
            link_tree(compiled, draft / compiled.name)
        if beside:
            for name in file_names(beside.path):
                link_tree(beside.path / name, draft / name)
        write_json(draft / "manifest.json", facts)
        write_json(draft / "checks.json", _checks(results))
        write_json(draft / "run.json", _run(source, taken))
        draft.chmod(0o755)
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_folder(draft: Path, folder: Path) -> None:
    """Put a finished folder in the place of another; whoever looks finds one of them whole, or for a moment none."""
    old = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
    try:
        if folder.exists():
            folder.rename(old / "folder")
        draft.rename(folder)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, record: Any) -> None:
    """Write a record as JSON that people can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    draft.rename(path)


def _checks(results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    return json.loads(json.dumps([asdict(result) for result in results]))


def _run(source: Source, taken: Sequence[Taken]) -> dict[str, Any]:
    """What is true of this run only: when, where, how long, where the weights were found."""
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()},
        "weights": source.origin,
        "steps": [asdict(step) for step in taken],
    }


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
