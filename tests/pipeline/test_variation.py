"""Recordings made into others."""

import numpy as np
import pytest

from pipeline.types import Recording
from pipeline.variation import near, varied

RATE_HZ = 16000


def tone(name: str, hz: float, seconds: float = 2.0) -> Recording:
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return Recording(name, (0.1 * np.sin(2 * np.pi * hz * time)).astype(np.float32), RATE_HZ, name)


def test_variations_are_the_same_each_time():
    """Names, lengths and samples follow from the recordings alone; each recording has as many."""
    recordings = [tone("a", 200), tone("b", 300)]
    first, again = varied(recordings, 3), varied(recordings, 3)
    assert sorted(each.name for each in first) == ["a~0", "a~1", "a~2", "b~0", "b~1", "b~2"]
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(first, again, strict=True))
    assert all(each.samples.dtype == np.float32 and each.rate_hz == RATE_HZ for each in first)


def test_variations_differ_from_each_other_in_speed_and_level_of_what_is_mixed_in():
    """No two have the same length and the same samples, and none leaves the range of audio."""
    found = varied([tone("a", 200)], 6)
    assert len({each.samples.size for each in found}) > 3
    sizes = np.array([each.samples.size for each in found]) / (2 * RATE_HZ)
    assert sizes.min() > 1 / 1.2
    assert sizes.max() < 1 / 0.84
    assert max(np.abs(each.samples).max() for each in found) < 1


@pytest.mark.parametrize("samples", [np.zeros(1000, np.float32), np.ones(1, np.float32)])
def test_silence_and_single_samples_are_varied_too(samples):
    """What has no level keeps none; nothing is divided by zero."""
    found = varied([Recording("a", samples, RATE_HZ, "a")], 4)
    assert all(np.isfinite(each.samples).all() for each in found)


def test_what_stays_near_is_the_same_each_time_and_new_for_each_number():
    """Of about the length and loudness of the recording, beginning elsewhere."""
    recording = tone("a", 203)
    found = [near(recording, number) for number in range(12)]
    assert [each.name for each in found] == [f"a~{number}" for number in range(12)]
    assert len({each.samples[:100].tobytes() for each in found}) == 12
    for number, one in enumerate(found):
        assert np.array_equal(one.samples, near(recording, number).samples)
        assert one.samples.dtype == np.float32
        assert 1 / 1.08 < one.samples.size / (2 * RATE_HZ) < 1 / 0.92
        assert 0.02 < np.sqrt(np.mean(one.samples**2)) / 0.1 * np.sqrt(2) < 2.1


def test_half_of_what_stays_near_is_the_recording_itself():
    """From another moment of its first second on; its samples are none but those that were recorded."""
    samples = np.random.default_rng(0).standard_normal(3 * RATE_HZ).astype(np.float32)
    found = [near(Recording("a", samples, RATE_HZ, "a"), number).samples for number in range(40)]
    itself = [each for each in found if np.array_equal(np.sort(each), np.sort(samples))]
    assert 12 < len(itself) < 28
    starts = {int(np.flatnonzero(samples == each[0])[0]) for each in itself}
    assert len(starts) == len(itself)
    assert max(starts) < RATE_HZ


def test_of_a_long_recording_another_part_is_taken_each_time():
    """Two minutes of it, so that a variation of an hour costs no more than one of a talk."""
    samples = np.arange(300 * 1000, dtype=np.float32)
    found = [near(Recording("a", samples, 1000, "a"), number).samples for number in range(20)]
    assert all(each.size < 1.08 * 120 * 1000 for each in found)
    whole = [each.min() for each in found if each.size == 120 * 1000]
    assert len(set(whole)) == len(whole) > 3


@pytest.mark.parametrize("samples", [np.zeros(1000, np.float32), np.ones(1, np.float32)])
def test_silence_stays_near_itself(samples):
    """Nothing is divided by zero."""
    recording = Recording("a", samples, RATE_HZ, "a")
    assert all(np.isfinite(near(recording, number).samples).all() for number in range(8))
