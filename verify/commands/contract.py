"""`contract PATH…`: what about these artifacts is not as the apps that load them require."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.types import QuernError
from verify.contracts.findings import Finding, findings
from verify.contracts.terms import SUFFIXES, ModelTerms, artifact_name, contracts, terms_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        type=Path,
        help="a .mlmodelc, .mlpackage or JSON file that a contract names, or a folder of a release with any of them",
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="take it for the model of that name, whatever its own"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings and return 1 where there are any."""
    held = [one for path in arguments.paths for one in _held(path, arguments.name)]
    if arguments.json:
        print(json.dumps([_as_json(*one) for one in held], indent=2))
    else:
        for path, terms, found in held:
            count = f"{len(found)} finding{'s' if len(found) != 1 else ''}" if found else "as required"
            print(f"{path}: {terms.consumer}, {terms.pattern}: {count}")
            for finding in found:
                print(f"  {finding}")
    return int(any(found for _, _, found in held))


Held = tuple[Path, ModelTerms, list[Finding]]


def _held(path: Path, name: str | None) -> Iterator[Held]:
    """Hold one artifact, or every artifact of a folder that a contract names, against the contracts."""
    if not path.exists():
        raise QuernError(f"{path}: expected an artifact or a folder of them, found nothing there")
    if path.is_dir() and path.suffix not in SUFFIXES:
        yield from _release(path)
        return
    name = name or artifact_name(path)
    applying = terms_for(name, contracts())
    if not applying:
        known = ", ".join(terms.pattern for terms in contracts())
        raise QuernError(f"{path}: no contract names '{name}'; there is {known}; choose one of them with --as")
    for terms in applying:
        yield path, terms, findings(path, terms, path.resolve().parent)


def _release(root: Path) -> Iterator[Held]:
    """Hold every artifact below a folder against its contract, and its place against the published path."""
    paths = [path for path in sorted(root.rglob("*")) if _is_artifact(path.relative_to(root))]
    held = [(path, terms) for path in paths for terms in terms_for(artifact_name(path), contracts())]
    if not held:
        raise QuernError(f"{root}: expected artifacts that a contract names, found none")
    for path, terms in held:
        place = PurePosixPath(path.relative_to(root).with_name(artifact_name(path)).as_posix())
        misplaced = [] if terms.holds(place) else [Finding("layout", str(place), f"expected at {terms.pattern}")]
        yield path, terms, [*misplaced, *findings(path, terms, path.resolve().parent)]


def _is_artifact(path: Path) -> bool:
    inside = any(parent.suffix in SUFFIXES or parent.name.startswith(".") for parent in path.parents if parent.name)
    return path.suffix in (*SUFFIXES, ".json") and not inside


def _as_json(path: Path, terms: ModelTerms, found: list[Finding]) -> dict:
    return {
        "path": str(path),
        "consumer": terms.consumer,
        "contract": terms.pattern,
        "findings": [{"kind": f.kind, "where": f.where, "sentence": f.sentence} for f in found],
    }
