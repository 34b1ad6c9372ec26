"""diarize.py runs what was built on recordings, and says in one sentence what it cannot run."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pipeline.code import ROOT
from tests.fixtures import FIXTURES, needs_fixtures

pytestmark = [needs_fixtures, pytest.mark.slow]


def diarize(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "diarize.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return nine seconds in which two people speak, at another rate, in two channels."""
    import numpy as np
    import soundfile

    samples, rate_hz = soundfile.read(FIXTURES / "audio" / "sample.wav", start=10 * 16000, stop=19 * 16000)
    path = tmp_path_factory.mktemp("talk") / "talk.flac"
    soundfile.write(path, np.stack([samples[::2], samples[::2]], axis=1), rate_hz // 2)
    return path


def test_an_artifact_says_who_spoke_when(built: Path, talk: Path, tmp_path: Path) -> None:
    """As RTTM, as a picture and in a summary, for any rate and number of channels."""
    model = built / "segmentation-3.0" / "fp16"
    done = diarize(talk, "--model", model, "--rttm", tmp_path / "out.rttm", "--timeline", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in (tmp_path / "out.rttm").read_text().splitlines()]
    assert {len(line) for line in lines} == {10}
    assert {line[1] for line in lines} == {"talk"}
    assert 5 < sum(float(line[4]) for line in lines) < 12
    assert "s of speech" in done.stderr
    assert ElementTree.parse(tmp_path / "talk.svg").getroot().tag.endswith("svg")


def test_bundles_and_packages_need_no_manifest(built: Path, talk: Path) -> None:
    """And say the same as the folder they lie in."""
    folder = built / "segmentation-3.0" / "fp16"
    names = ("", "pyannote_segmentation.mlpackage", "pyannote_segmentation.mlmodelc")
    found = [diarize(talk, "--model", folder / name, "--json", "--min-duration", 0.2) for name in names]
    assert [done.returncode for done in found] == [0, 0, 0]
    assert len({done.stdout for done in found}) == 1
    turns = json.loads(found[0].stdout)[str(talk)]
    assert all(turn["end_s"] - turn["start_s"] >= 0.2 and 0 < turn["confidence"] <= 1 for turn in turns)


def test_several_recordings_go_into_one_file(built: Path, talk: Path, tmp_path: Path) -> None:
    """Each under its own name."""
    (tmp_path / "again.flac").write_bytes(talk.read_bytes())
    done = diarize(talk, tmp_path / "again.flac", "--model", built / "segmentation-3.0" / "w6", "--hop", 2)
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"talk", "again"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "nowhere"], "there is no such artifact"),
        (["--hop", 0], "--hop 0: expected more than 0 seconds"),
        (["--speakers", 2], "needs voices; give --embedding"),
        (["--embedding", "MODEL"], "expected `audio` and `masks` in and `embeddings` out"),
        (["--model", "AUDIO"], "expected the folder of an artifact"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    built: Path, talk: Path, tmp_path: Path, options: list, sentence: str
) -> None:
    """On standard error, with status 2, and nothing is written."""
    model = built / "segmentation-3.0" / "fp16"
    words = [{"MODEL": model, "AUDIO": talk}.get(word, word) for word in options]
    done = diarize(talk, "--model", model, "--rttm", tmp_path / "out.rttm", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_be_read_is_named(built: Path, tmp_path: Path) -> None:
    """Whether it is not there or no recording."""
    (tmp_path / "text.wav").write_text("no")
    for name in ("text.wav", "missing.wav"):
        done = diarize(tmp_path / name, "--model", built / "segmentation-3.0" / "fp16")
        assert done.returncode == 2
        assert name in done.stderr
