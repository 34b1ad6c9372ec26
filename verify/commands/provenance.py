"""`provenance DIR…`: is every file of a release what its provenance.json says, and nothing missing or added?"""

import argparse
import json
from pathlib import Path

from pipeline import provenance
from pipeline.types import QuernError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="a release, as downloaded or built")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found and return 1 where anything was."""
    found = {str(folder): _report(folder) for folder in arguments.folders}
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(line for folder, report in found.items() for line in _lines(folder, report)))
    return int(any(report["findings"] for report in found.values()))


def _report(folder: Path) -> dict:
    if not folder.is_dir():
        raise QuernError(f"{folder}: expected the folder of a release, found none")
    document = provenance.read(folder)
    return {
        "repository": document["repository"],
        "revision": document["code"]["revision"],
        "provenance": provenance.digest(folder),
        "files": len(provenance.files(document)),
        "findings": list(provenance.findings(folder, document)),
    }


def _lines(folder: str, report: dict) -> list[str]:
    count = len(report["findings"])
    verdict = f"{count} finding{'s' if count != 1 else ''}" if count else f"intact, {report['files']} files"
    return [
        f"{folder}: {report['repository']}, made by {report['revision'][:12]}: {verdict}",
        *(f"  {finding}" for finding in report["findings"]),
        f"  sha256 of {provenance.NAME}: {report['provenance']}",
    ]
