"""Reading recordings, and bringing them to another rate."""

import hashlib

import numpy as np
import pytest
import soundfile

from diarization.audio import read_recording, resampled
from pipeline.types import QuernError


def test_a_recording_is_mono_float_with_its_name_rate_and_digest(tmp_path):
    """Channels are averaged; name, rate and sha256 are those of the file."""
    path = tmp_path / "talk.wav"
    stereo = np.stack([np.full(800, 0.5), np.full(800, -0.25)], axis=1)
    soundfile.write(path, stereo, 8000, subtype="FLOAT")
    recording = read_recording(path)
    assert (recording.name, recording.rate_hz) == ("talk", 8000)
    assert recording.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert recording.samples.dtype == np.float32
    np.testing.assert_array_equal(recording.samples, np.full(800, 0.125, np.float32))


def test_long_recordings_are_read_whole(tmp_path):
    """Reading in blocks loses nothing where a block ends."""
    samples = np.random.default_rng(0).uniform(-1, 1, (1 << 20) + 7).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", samples, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_recording(tmp_path / "long.wav").samples, samples)


def test_sixteen_bit_samples_are_parts_of_full_scale(tmp_path):
    """Integers are divided by 2^15."""
    soundfile.write(tmp_path / "a.wav", np.array([-32768, 16384, 0], np.int16), 16000)
    np.testing.assert_array_equal(read_recording(tmp_path / "a.wav").samples, [-1, 0.5, 0])


def _written(path, samples):
    soundfile.write(path, np.asarray(samples, np.float32), 16000, subtype="FLOAT")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda path: b"", "not an audio file"),
        (lambda path: b"RIFF of nothing at all", "not an audio file"),
        (lambda path: _written(path, [0.0, 1.0])[:20], "not an audio file"),
        (lambda path: _written(path, []), "holds no samples"),
        (lambda path: _written(path, [0.0, np.nan, np.inf]), "2 of 3 samples are not finite"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_sentence(tmp_path, content, expected):
    """Empty, foreign, cut, silent of samples, NaN: a QuernError that names the file."""
    path = tmp_path / "bad.wav"
    path.write_bytes(content(path))
    with pytest.raises(QuernError, match=expected) as caught:
        read_recording(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recording_is_refused(tmp_path):
    """No file, and a folder in place of one, are QuernErrors too."""
    for path in (tmp_path / "absent.wav", tmp_path):
        with pytest.raises(QuernError, match="cannot read the recording"):
            read_recording(path)


def test_the_claimed_length_of_a_file_is_not_believed(tmp_path):
    """A FLAC header that claims 2^36 − 1 samples allocates nothing for them."""
    path = tmp_path / "claim.flac"
    soundfile.write(path, np.zeros(4096, np.float32), 16000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # STREAMINFO: the low 4 bits of byte 21 and the next 4 bytes count the samples
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    try:
        assert read_recording(path).samples.size == 4096
    except QuernError as error:
        assert "claim.flac" in str(error)  # noqa: PT017 - either answer is right, allocating 256 GiB is not


@pytest.mark.parametrize(("rate", "wanted"), [(48000, 16000), (44100, 16000), (8000, 16000), (11025, 16000)])
def test_resampling_keeps_a_tone_that_both_rates_can_carry(rate, wanted):
    """A 1 kHz tone stays the same tone, to 1e-5 away from the ends."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate).astype(np.float32)
    found = resampled(tone, rate, wanted)
    expected = np.sin(2 * np.pi * 1000 * np.arange(wanted // 2) / wanted)
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(200, len(expected) - 200)
    np.testing.assert_allclose(found[middle], expected[middle], atol=1e-5)


def test_resampling_removes_what_the_lower_rate_cannot_carry():
    """A 12 kHz tone is gone at 16 kHz instead of folding back."""
    tone = np.sin(2 * np.pi * 12000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(resampled(tone, 48000, 16000)[200:-200]).max() < 1e-5


def test_the_same_rate_changes_nothing():
    """Nothing is filtered where there is nothing to do."""
    samples = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    assert resampled(samples, 16000, 16000) is samples


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_shortest_recordings_can_be_resampled(count):
    """A handful of samples, fewer than the kernel's, gives the proportional number."""
    assert len(resampled(np.ones(count, np.float32), 44100, 16000)) == -(-count * 160 // 441)
