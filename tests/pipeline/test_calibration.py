"""Which recordings a pass calibrates on, and what of its decisions reaches the manifest."""

import json
from pathlib import Path

import pytest

from pipeline import steps
from pipeline.config import read_matrix
from pipeline.manifest import _pass
from pipeline.store import Store
from pipeline.types import Artifact, Pass, Variant
from tests.fixtures import FIXTURES, needs_fixtures
from tests.pipeline.conftest import MATRIX

MIXED = MATRIX.replace("optimize: [palettize: {nbits: 6}]", "optimize: [mixed_palette: {size_mb: 1.2}]")


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    (tmp_path / "variants.yaml").write_text(MIXED)
    return next(each for each in read_matrix(tmp_path / "variants.yaml").variants if each.optimize)


@needs_fixtures
def test_every_third_recording_is_held_out(variant: Variant) -> None:
    """The examples of calibration and those held out are of different recordings, and together of all."""
    audio = steps.Audio(tuple(sorted((FIXTURES / "audio").glob("*.wav"))))
    found = steps.calibration(variant, audio)
    assert found is not None
    kept, held = ({each.name.split("@")[0] for each in examples()} for examples in (found.calibrate, found.held_out))
    assert held == {path.stem for path in audio.recordings[2::3]}
    assert kept == {path.stem for path in audio.recordings} - held


@needs_fixtures
def test_variations_are_of_what_is_calibrated_on(variant: Variant) -> None:
    """Nothing that is held out is heard in another form; each recording is varied several times."""
    found = steps.calibration(variant, steps.Audio(tuple(sorted((FIXTURES / "audio").glob("*.wav")))))
    assert found is not None
    assert found.varied is not None
    kept = {each.name.split("@")[0] for each in found.calibrate()}
    variations = {each.name.split("@")[0] for each in found.varied()}
    assert {name.rpartition("~")[0] for name in variations} == kept
    assert len(variations) >= 3 * len(kept)


def test_without_recordings_there_is_no_calibration(variant: Variant) -> None:
    """The pass is told so, and says what it needs."""
    assert steps.calibration(variant, steps.Audio(())) is None


@needs_fixtures
def test_recordings_stand_in_the_recipe_of_a_pass_that_calibrates(variant: Variant, tmp_path: Path) -> None:
    """Other recordings make another step; a pass that does not calibrate knows nothing of them."""
    recordings = tuple(sorted((FIXTURES / "audio").glob("*.wav")))
    artifact, store = Artifact(tmp_path, "digest"), Store(tmp_path / "store")
    plain = Pass("palettize", steps.plugins.pass_("palettize").Options(6))

    def recipe(chosen: Pass, count: int) -> dict:
        return dict(steps.optimize(variant, chosen, artifact, store, steps.Audio(recordings[:count])).recipe)

    assert recipe(variant.optimize[0], 2) != recipe(variant.optimize[0], 3)
    assert recipe(plain, 2) == recipe(plain, 3)


def test_decisions_of_a_pass_stand_in_the_manifest(variant: Variant, tmp_path: Path) -> None:
    """What a pass decided by itself is beside its options; a pass that decided nothing is as it was declared."""
    (tmp_path / "findings.json").write_text(json.dumps({"decided": {"assignment": {"main/a": 4}}}))
    decided = steps.decisions(Artifact(tmp_path, "digest"))
    assert _pass(variant.optimize[0], decided)["decided"] == {"assignment": {"main/a": 4}}
    (tmp_path / "findings.json").write_text("{}")
    assert "decided" not in _pass(variant.optimize[0], steps.decisions(Artifact(tmp_path, "digest")))
