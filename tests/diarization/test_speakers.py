"""Speakers of windows become speakers of the recording, by overlap or by voice."""

import numpy as np
import pytest

from diarization.clustering import Clustering, clustered
from diarization.linking import NOBODY, linked
from diarization.local import LocalSpeakers, local_speakers, until
from diarization.powerset import powerset
from diarization.reconstruction import reconstructed
from diarization.turns import Shaping, Turn, rttm, turns

WINDOW, HOP = 100, 20
FRAME_S = 0.1


def conversation(frames: int = 400) -> np.ndarray:
    """Return who speaks (frame, speaker): three people in turns of forty frames, the end of each overlapping."""
    active = np.zeros((frames, 3), bool)
    for i, start in enumerate(range(0, frames, 40)):
        active[start : start + 45, i % 3] = True
    return active


def cut(active: np.ndarray, seed: int = 0) -> tuple[list[LocalSpeakers], list[np.ndarray]]:
    """Return windows in each of which the speakers are numbered anew, and how."""
    generator = np.random.default_rng(seed)
    found, orders = [], []
    for first in range(0, len(active) - WINDOW + 1, HOP):
        orders.append(generator.permutation(active.shape[1]))
        part = active[first : first + WINDOW, orders[-1]]
        found.append(LocalSpeakers(first, part.astype(np.float32), part))
    return found, orders


def voices(orders: list[np.ndarray], noise: float) -> np.ndarray:
    """Return an embedding (window, speaker, dimension) for each, three directions and some noise."""
    generator = np.random.default_rng(1)
    directions = np.eye(3, 64)
    return np.stack([directions[order] + noise * generator.standard_normal((3, 64)) for order in orders])


def spoken(windows: list[LocalSpeakers], labels: list[np.ndarray]) -> list[Turn]:
    return turns(reconstructed(windows, labels), FRAME_S, Shaping())


def expected(active: np.ndarray) -> list[Turn]:
    everybody = LocalSpeakers(0, active.astype(np.float32), active)
    return spoken([everybody], [np.arange(active.shape[1])])


@pytest.mark.parametrize("how", ["linked", "clustered"])
def test_the_conversation_comes_back(how: str) -> None:
    """Whoever is number one in each window, each turn has its speaker, to the frame."""
    active = conversation()
    windows, orders = cut(active)
    labels = linked(windows) if how == "linked" else clustered(windows, voices(orders, 0.02), Clustering())
    assert spoken(windows, labels) == expected(active)


def test_a_voice_is_known_again_after_a_long_silence() -> None:
    """By embedding it is the same speaker; by overlap nobody can tell, and it is another."""
    active = conversation()
    active[120:320] = False
    windows, orders = cut(active)
    speakers = {turn.speaker for turn in spoken(windows, clustered(windows, voices(orders, 0.02), Clustering()))}
    assert len(speakers) == 3
    assert len({turn.speaker for turn in spoken(windows, linked(windows))}) > 3


def test_voices_that_are_all_alike_are_one_speaker() -> None:
    """Constant embeddings tell nobody apart, but two in one window are two."""
    windows, _ = cut(conversation())
    labels = clustered(windows, np.ones((len(windows), 3, 64)), Clustering())
    assert {int(label) for each in labels for label in each} <= {NOBODY, 0}


def test_as_many_speakers_as_are_asked_for() -> None:
    """Where their number is known, clusters are cut by it and not by distance."""
    windows, orders = cut(conversation())
    labels = clustered(windows, voices(orders, 0.02), Clustering(speakers=2))
    assert {int(label) for each in labels for label in each} - {NOBODY} == {0, 1}


def test_silence_has_no_speakers() -> None:
    """No turns, with voices or without."""
    windows, _ = cut(np.zeros((200, 3), bool))
    nowhere = np.full((len(windows), 3, 64), np.nan)
    assert spoken(windows, linked(windows)) == spoken(windows, clustered(windows, nowhere, Clustering())) == []
    assert reconstructed([], []) == []


def test_padding_says_nothing() -> None:
    """What a network makes of the silence behind the end is cut off."""
    active = np.ones((100, 3), bool)
    assert until(LocalSpeakers(50, active.astype(np.float32), active), 120).end == 120
    assert len(until(LocalSpeakers(50, active.astype(np.float32), active), 20).active) == 0


def test_probabilities_are_those_of_the_sets_that_hold_a_speaker() -> None:
    """And activity is that of the likeliest set."""
    log_probs = np.log(np.array([[0.1, 0.2, 0.05, 0.05, 0.4, 0.1, 0.1]]))
    local = local_speakers(0, log_probs)
    np.testing.assert_allclose(local.probability, [[0.7, 0.55, 0.25]], atol=1e-6)
    np.testing.assert_array_equal(local.active, powerset()[[4]])
    assert not local.alone.any()


def test_short_turns_are_dropped_after_short_gaps_are_closed() -> None:
    """Two halves of a word are one turn; a click is none."""
    active = np.zeros((100, 1), bool)
    active[10:20] = active[22:30] = active[60:62] = True
    window = [LocalSpeakers(0, active.astype(np.float32), active)]
    tracks = reconstructed(window, [np.array([0])])
    assert [(t.start_s, t.end_s) for t in turns(tracks, 1.0, Shaping(least_s=3, gap_s=3))] == [(10, 30)]
    assert len(turns(tracks, 1.0, Shaping())) == 3


def test_rttm_has_ten_fields() -> None:
    """Whatever the recording is called."""
    (line,) = rttm([Turn(1.25, 3.0, "SPEAKER_00", 0.5)], "my talk")
    assert line == "SPEAKER my_talk 1 1.250 1.750 <NA> <NA> SPEAKER_00 0.500 <NA>"
