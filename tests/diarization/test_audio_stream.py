"""A recording read in blocks is the recording, and windows cover all of it."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarization import audio_stream
from diarization.audio import read_recording, resampled
from diarization.audio_stream import blocks, duration_s, windows
from pipeline.types import QuernError


def noise(path: Path, rate_hz: int, seconds: float, channels: int = 1) -> Path:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate_hz), channels))
    soundfile.write(path, samples, rate_hz)
    return path


@pytest.mark.parametrize(("rate_hz", "channels"), [(16000, 1), (8000, 1), (44100, 2), (48000, 1), (22050, 1)])
def test_blocks_are_the_whole_resampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_hz: int, channels: int
) -> None:
    """Whatever the rate, no seam is to be heard."""
    monkeypatch.setattr(audio_stream, "BLOCK_S", 1)
    path = noise(tmp_path / "talk.wav", rate_hz, 3.317, channels)
    whole = resampled(read_recording(path).samples, rate_hz, 16000)
    np.testing.assert_allclose(np.concatenate(list(blocks(path, 16000))), whole, atol=1e-6)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 0.001])
def test_a_recording_that_ends_with_a_block_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The last block may be full, or almost empty."""
    monkeypatch.setattr(audio_stream, "BLOCK_S", 1)
    path = noise(tmp_path / "talk.wav", 44100, seconds)
    whole = resampled(read_recording(path).samples, 44100, 16000)
    np.testing.assert_allclose(np.concatenate(list(blocks(path, 16000))), whole, atol=1e-6)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Seventy-seven minutes at 48 kHz, whose samples alone are 880 MB, take less than 150 MB."""
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 48000, 1, subtype="PCM_U8") as file:
        for _ in range(77):
            file.write(np.zeros(60 * 48000, np.float32))
    tracemalloc.start()
    heard = 0
    for window in windows(blocks(path, 16000), 160000, 160000):
        heard = window.start + len(window.samples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert heard == 77 * 60 * 16000
    assert peak < 150e6


@pytest.mark.parametrize(
    ("length", "starts"), [(5, [0]), (10, [0]), (11, [0, 3]), (13, [0, 3]), (14, [0, 3, 6]), (0, [0])]
)
def test_windows_reach_the_end_and_no_further(length: int, starts: list[int]) -> None:
    """The last is the first that reaches the end, filled with zeros."""
    samples = np.arange(1, length + 1, dtype=np.float32)
    found = list(windows(iter(np.array_split(samples, 3)), 10, 3))
    assert [window.start for window in found] == starts
    for window in found:
        expected = samples[window.start : window.start + 10]
        np.testing.assert_array_equal(window.samples, np.pad(expected, (0, 10 - len(expected))))


def test_what_is_no_recording_is_said_in_one_sentence(tmp_path: Path) -> None:
    """With the file's name, whatever is wrong with it."""
    (tmp_path / "not.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    for name, reason in (("not", "not an audio file"), ("empty", "holds no samples"), ("nan", "not finite")):
        with pytest.raises(QuernError, match=rf"{name}\.wav: .*{reason}"):
            list(blocks(tmp_path / f"{name}.wav", 16000))
    for read in (lambda path: list(blocks(path, 16000)), duration_s):
        with pytest.raises(QuernError, match=r"missing\.wav: cannot read the recording: No such file"):
            read(tmp_path / "missing.wav")


def test_a_recording_lasts_as_long_as_its_header_says(tmp_path: Path) -> None:
    """In seconds, whatever its rate."""
    soundfile.write(tmp_path / "talk.flac", np.zeros((11025, 2)), 44100)
    assert duration_s(tmp_path / "talk.flac") == 0.25
