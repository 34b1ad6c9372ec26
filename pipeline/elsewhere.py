"""Measurements that were made on another machine, such as a Mac, and that a later build picks up.

    <folder>/<key>.json     the key names the check, its code, and the bytes it looked at

What was measured on other bytes, or by another version of the check, is under another key and counts for nothing.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.code import ROOT, code_digest
from pipeline.recipe import key
from pipeline.types import Artifact, Measurement, QuernError


def folder() -> Path:
    """Return where such results are kept: QUERN_RESULTS, or `results/` beside the code."""
    return Path(os.environ.get("QUERN_RESULTS") or ROOT / "results")


def travels(check: str) -> bool:
    """Return whether what a check finds follows from the artifact alone, so that it holds on other machines."""
    return set(plugins.check(check).NEEDS) <= {"package", "bundle", "functions", "sidecars"}


def with_results(check: str, shown: Mapping[str, Artifact], found: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements, those without a value replaced where another machine made them on the same bytes."""
    if not travels(check) or all(measurement.value is not None for measurement in found):
        return list(found)
    record = _read(folder() / f"{_key(check, shown)}.json")
    made = {m["name"]: Measurement(**m) for m in record["measurements"]} if record else {}
    return [_from(record["host"], made[m.name]) if record and m.value is None and m.name in made else m for m in found]


def keep(destination: Path, variant: str, check: str, shown: Mapping[str, Artifact], found: list[Measurement]) -> None:
    """Write what was measured here into a folder, for other machines; a check that measured nothing leaves nothing."""
    made = [asdict(measurement) for measurement in found if measurement.value is not None]
    if not made or not travels(check):
        return
    destination.mkdir(parents=True, exist_ok=True)
    name = f"{_key(check, shown)}.json"
    record = {"variant": variant, "check": check, "looked_at": _looked_at(shown), "host": host(), "measurements": made}
    draft = destination / f".{name}.{os.getpid()}"
    draft.write_text(json.dumps(record, indent=2) + "\n")
    draft.rename(destination / name)


def host() -> dict[str, str]:
    """Return what this machine is, and the day: a measurement that only some machines can make says where it was."""
    mac = platform.system() == "Darwin"
    facts = {
        "system": "macOS" if mac else platform.system(),
        "version": platform.mac_ver()[0] if mac else platform.release(),
        "machine": platform.machine(),
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return facts | ({"chip": _sysctl("machdep.cpu.brand_string"), "model": _sysctl("hw.model")} if mac else {})


def _sysctl(name: str) -> str:
    return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True).stdout.strip()


def _key(check: str, shown: Mapping[str, Artifact]) -> str:
    code = code_digest(plugins.check(check).measure)
    return key({"check": check, "looked_at": _looked_at(shown), "code": code})


def _looked_at(shown: Mapping[str, Artifact]) -> dict[str, str]:
    """Return the digest of each artifact's own files; what a pass found while it worked is not among them."""
    return {what: key(_hashes(artifact)) for what, artifact in shown.items()}


def _hashes(artifact: Artifact) -> list[tuple[str, str]]:
    files = json.loads((artifact.path / "files.json").read_text())["files"]
    return sorted((name, entry["sha256"]) for name, entry in files.items() if name != "findings.json")


def _from(host: Mapping[str, str], made: Measurement) -> Measurement:
    where = f"measured on {host['system']} {host['version']}, {host.get('chip') or host['machine']}, {host['day']}"
    note = f"{where}: {made.note}" if made.note else where
    return replace(made, note=note, detail={**made.detail, "measured_on": dict(host)})


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        whole = {"system", "version", "machine", "day"} <= record["host"].keys()
        for made in record["measurements"]:
            Measurement(**made)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise QuernError(f"{path}: expected results that --results-out wrote, found something else; remove the file")
    return record
