"""Where a release comes from: provenance.json, which names every input, every artifact and every file by its digest.

It holds no clock and no host but those of measurements that were made elsewhere. docs/provenance.schema.json is its
JSON Schema.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.store import file_digest
from pipeline.types import QuernError

NAME = "provenance.json"
SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "provenance.schema.json"
VERSION = 1

# What a hub and git put beside a release by themselves; nothing that a model is loaded from.
NOT_OURS = (".gitattributes", ".git", ".cache")


def read(folder: Path) -> dict[str, Any]:
    """Return the provenance of a release on disk; raises QuernError if it has none, or one that is not valid."""
    path = folder / NAME
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise QuernError(f"{folder}: expected a release, with its {NAME}; found none") from None
    except ValueError as error:
        raise QuernError(f"{path}: not JSON: {error}") from None
    validate(document, str(path))
    return document


def validate(document: Any, where: str) -> None:
    """Raise QuernError with the first place at which a document is not as the schema says."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(_schema()).iter_errors(document))
    if error is not None:
        raise QuernError(f"{where}: {error.json_path}: {error.message}; it should be as docs/{SCHEMA.name} says")


def findings(folder: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not as the provenance says: each file that is missing, altered or not named there."""
    stated = files(document)
    for name, entry in sorted(stated.items()):
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
        elif path.stat().st_size != entry["size_bytes"]:
            yield f"{name}: altered: expected {entry['size_bytes']} bytes, found {path.stat().st_size}"
        elif (found := file_digest(path)) != entry["sha256"]:
            yield f"{name}: altered: expected sha256 {entry['sha256'][:12]}…, found {found[:12]}…"
    for name in sorted(_present(folder) - stated.keys() - {NAME}):
        yield f"{name}: not part of the release"


def digest(folder: Path) -> str:
    """Return the sha256 of the provenance itself, to be compared with what was told when it was published."""
    return file_digest(folder / NAME)


def files(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every file of a release but the provenance itself, with its sha256 and size."""
    named: Sequence[Mapping] = (document, *document["artifacts"])
    return {name: entry for part in named for name, entry in part["files"].items()}


@cache
def _schema() -> dict[str, Any]:
    return json.loads(SCHEMA.read_text())


def _present(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {str(PurePosixPath(path)) for path in found if path.parts[0] not in NOT_OURS}
