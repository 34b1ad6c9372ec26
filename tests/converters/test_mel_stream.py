"""A spectrogram that is made block by block is the spectrogram."""

import numpy as np
import pytest

from converters.networks.sortformer.mel import log_mel
from converters.networks.sortformer.mel_stream import mel_blocks


@pytest.mark.parametrize("cuts", [[16000], [1, 159, 160, 161, 5000], [400, 800, 1200], [], [47999]])
def test_blocks_of_any_length_give_the_whole(cuts: list[int]) -> None:
    """Frames at the seams see their neighbours; the end is padded only once."""
    audio = np.random.default_rng(0).normal(scale=0.1, size=48050).astype(np.float32)
    whole = log_mel(audio[np.newaxis, : len(audio) // 160 * 160], 128).T
    found = np.concatenate(list(mel_blocks(np.split(audio, cuts), 128)))
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=1e-4)


def test_less_than_a_hop_is_no_frame() -> None:
    """Nothing is made up."""
    assert list(mel_blocks([np.zeros(159, np.float32)], 128)) == []
