"""A release on disk, as publishing would upload it, made from the small matrix, and what a Mac adds to it."""

import json
from pathlib import Path

from pipeline import elsewhere
from pipeline.config import read_matrix
from pipeline.line import Settings
from pipeline.publish.command import Plan, plan
from pipeline.publish.release import Release
from pipeline.steps import Audio
from pipeline.types import Artifact, Measurement
from tests.fixtures import FIXTURES
from tests.pipeline.conftest import MATRIX

REPOSITORY = "us/tiny-diarization"
PLACE = "    publish: {repository: tiny-diarization, path: '{variant}', limit_mb: 20}\n"
PLACED = MATRIX.replace("    form: {window_s: 2}\n", "    form: {window_s: 2}\n" + PLACE)


def planned(built: Path, audio: Path, folder: Path) -> Plan:
    """Return what publishing the built matrix would come to; the matrix is written into the folder."""
    path = folder / "variants.yaml"
    path.write_text(PLACED)
    recordings = Audio(tuple(audio.glob("*.wav")))
    settings = Settings(built, "real", FIXTURES, recordings, recordings, "auto")
    variants = read_matrix(path).variants
    return plan(variants, variants, settings, path, "us", needs_owner=True)


def write(release: Release, folder: Path) -> Path:
    """Write every file of a release into a folder, and return it."""
    for name, file in release.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content if isinstance(file.content, bytes) else file.content.read_bytes())
    return folder


def measured_on_a_mac(out: Path, variant: str, results: Path, *found: Measurement) -> None:
    """Leave the results that a Mac would, for the bundle of a variant."""
    steps = {step["stage"]: step for step in json.loads((out / variant / "run.json").read_text())["steps"]}
    bundle = Artifact(out / ".store" / steps["compile"]["key"], "")
    elsewhere.keep(results, variant, "placement", {"bundle": bundle}, list(found))
