"""diarize.py runs what was built on recordings, and says in one sentence what it cannot run."""

import json
import os
import signal
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
    done = diarize(talk, tmp_path / "again.flac", "--model", built / "segmentation-3.0" / "w6", "--hop", 1.5)
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"talk", "again"}


def test_a_recording_that_cannot_be_read_does_not_lose_the_others(built: Path, talk: Path, tmp_path: Path) -> None:
    """It is named, the rest is written, and the status says that something was wrong."""
    again = tmp_path / "again.flac"
    again.write_bytes(talk.read_bytes())
    model, found = built / "segmentation-3.0" / "fp16", tmp_path / "out.rttm"
    done = diarize(talk, tmp_path / "missing.wav", again, "--model", model, "--hop", 1.5, "--rttm", found)
    assert done.returncode == 2
    assert "missing.wav: cannot read the recording: No such file" in done.stderr
    assert {line.split()[1] for line in found.read_text().splitlines()} == {"talk", "again"}


def test_stand_ins_are_told_of(copied: Path, talk: Path) -> None:
    """Speakers that an untrained network tells apart look like others."""
    manifest = copied / "segmentation-3.0" / "fp16" / "manifest.json"
    assert "stand-in" not in diarize(talk, "--model", manifest.parent).stderr
    manifest.write_text(manifest.read_text().replace('"weights": "trained"', '"weights": "synthetic"'))
    assert "made of stand-ins for trained weights" in diarize(talk, "--model", manifest.parent).stderr


def test_a_reader_may_stop(built: Path, talk: Path) -> None:
    """As `head` does: nothing is said of it, neither of RTTM nor of JSON."""
    for how in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, ROOT / "diarize.py", talk, "--model", built / "segmentation-3.0" / "fp16", *how]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writing)
        assert done.returncode == -signal.SIGPIPE
        assert done.stderr.splitlines()[0].startswith("talk.flac: ")
        assert "rror" not in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "nowhere"], "there is no such artifact"),
        (["--hop", 0], "--hop 0: expected more than 0 seconds"),
        (["--speakers", 2], "needs voices; give --embedding"),
        (["--embedding", "MODEL"], "expected `audio` and `masks` in and `embeddings` out"),
        (["--model", "AUDIO"], "expected the folder of an artifact"),
        (
            ["--model", "FOLDER"],
            "expected the folder of an artifact, with its manifest.json, or a .mlpackage or "
            ".mlmodelc; it holds such folders: fp16, w6",
        ),
        (["--hop", 2], "--hop 2: windows of 2 s do not overlap then"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    built: Path, talk: Path, tmp_path: Path, options: list, sentence: str
) -> None:
    """On standard error, with status 2, and nothing is written."""
    model = built / "segmentation-3.0" / "fp16"
    words = [{"MODEL": model, "FOLDER": model.parent, "AUDIO": talk}.get(word, word) for word in options]
    done = diarize(talk, "--model", model, "--rttm", tmp_path / "out.rttm", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_two_recordings_of_one_name_are_refused(built: Path, talk: Path, tmp_path: Path) -> None:
    """RTTM would not tell them apart, nor would their pictures."""
    done = diarize(talk, tmp_path / "talk.wav", "--model", built / "segmentation-3.0" / "fp16")
    assert (done.returncode, done.stdout) == (2, "")
    assert "talk.wav: both would be called 'talk'; rename one of them" in done.stderr


def test_a_recording_that_cannot_be_read_is_named(built: Path, tmp_path: Path) -> None:
    """Whether it is not there or no recording."""
    (tmp_path / "text.wav").write_text("no")
    for name in ("text.wav", "missing.wav"):
        done = diarize(tmp_path / name, "--model", built / "segmentation-3.0" / "fp16")
        assert done.returncode == 2
        assert name in done.stderr
