"""PyanNet, ours: filters, sizes, and arithmetic that half precision survives."""

import numpy as np
import pytest
import torch

from converters.models import segmentation
from converters.networks.pyannet import _log_softmax, pyannet, sinc_filters
from converters.networks.pyannet_layout import Sizes, frame_count, parameter_shapes, sizes_of


def _state(sizes, seed=0):
    generator = np.random.default_rng(seed)
    drawn = {name: generator.uniform(-0.3, 0.3, shape) for name, shape in parameter_shapes(sizes).items()}
    drawn["sincnet.conv1d.0.filterbank.low_hz_"] = 100.0 * np.arange(40)[:, np.newaxis]
    return {name: tensor.astype(np.float32) for name, tensor in drawn.items()}


def test_a_filter_passes_its_band_and_stops_the_rest():
    """Even and odd partner together have gain in the middle of the band, and next to none an octave away."""
    low_hz, band_hz = np.array([[950.0]], np.float32), np.array([[350.0]], np.float32)  # 1000 Hz to 1400 Hz
    filters = sinc_filters(low_hz, band_hz)
    assert filters.shape == (2, 1, 251)
    assert filters.dtype == np.float32
    gain = np.abs(np.fft.rfft(filters[:, 0].astype(np.float64), 16000))  # one bin per Hz
    assert gain[:, 1200].min() > 10 * gain[:, [500, 2400]].max()


def test_filters_are_even_and_odd():
    """The first half are symmetric with 1 in the middle, their partners antisymmetric."""
    low_hz, band_hz = np.linspace(0, 7000, 40).reshape(40, 1), np.full((40, 1), 100.0)
    filters = sinc_filters(low_hz.astype(np.float32), band_hz.astype(np.float32))[:, 0]
    even, odd = filters[:40], filters[40:]
    np.testing.assert_array_equal(even, even[:, ::-1])
    np.testing.assert_array_equal(odd, -odd[:, ::-1])
    np.testing.assert_array_equal(even[:, 125], 1)


def test_signs_of_trained_frequencies_do_not_matter_and_bands_end_at_half_the_rate():
    """|low_hz|, |band_hz|, and a band that would pass 8 kHz ends there: its filter stays finite."""
    low_hz, band_hz = np.array([[1000.0], [7900.0]], np.float32), np.array([[50.0], [500.0]], np.float32)
    filters = sinc_filters(low_hz, band_hz)
    np.testing.assert_array_equal(filters, sinc_filters(-low_hz, -band_hz))
    assert np.isfinite(filters).all()


def test_log_softmax_is_torchs_and_survives_half_precision():
    """Equal to torch's in single precision; in half, unlikely classes keep what log(softmax) turns into −inf."""
    scores = torch.tensor([[30.0, 29.0, 4.5, -20.0]])
    torch.testing.assert_close(_log_softmax(scores), torch.log_softmax(scores, -1))
    half = _log_softmax(scores.half()).float()
    torch.testing.assert_close(half, torch.log_softmax(scores, -1), atol=0.03, rtol=0)
    assert torch.isinf(torch.softmax(scores.half(), -1).log()).any()


@pytest.mark.parametrize(("samples", "frames"), [(160000, 589), (80000, 293), (990, 0), (991, 1), (100, 0)])
def test_the_number_of_frames_follows_from_the_number_of_samples(samples, frames):
    """10 s give 589 frames; the first needs 991 samples."""
    assert frame_count(samples) == frames


@pytest.mark.parametrize("samples", [1261, 16000, 12345])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_and_window_length_is_taken(samples, batch):
    """The output has as many frames as announced, and each frame's probabilities sum to 1."""
    with torch.inference_mode():
        log_probs = pyannet(_state(Sizes(lstm_layers=1)))(torch.randn(batch, 1, samples))
    assert log_probs.shape == (batch, frame_count(samples), 7)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(batch, frame_count(samples)))


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(),
        Sizes(lstm_layers=2, lstm_hidden=32, classes=4),
        Sizes(bidirectional=False, linear_layers=1, linear_hidden=20),
        Sizes(lstm_layers=1, linear_layers=0, linear_hidden=128, classes=11),
    ],
)
def test_sizes_are_told_by_the_tensors(sizes):
    """A fine-tuned network of other sizes is recognised, and runs."""
    assert sizes_of(parameter_shapes(sizes)) == sizes
    with torch.inference_mode():
        assert pyannet(_state(sizes))(torch.zeros(1, 1, 2000)).shape[-1] == sizes.classes


def test_sizes_of_foreign_tensors_stay_harmless():
    """Names that are nearly ours, and shapes without axes, do not make a network of a million layers."""
    names = {
        "lstm.weight_ih_l999999999": (),
        "linear.77777777.weight": (1,),
        "classifier.weight": (),
        "linear.0.weight": (),
    }
    assert len(parameter_shapes(sizes_of(names))) < 5000


def test_the_trained_parameters_number_as_published():
    """1,473,265 parameters, as in pyannote/segmentation-3.0."""
    assert sum(np.prod(shape, dtype=int) for shape in parameter_shapes(Sizes()).values()) == 1_473_265


def test_the_network_traces():
    """A trace on one batch and length gives the same numbers on another."""
    network = pyannet(segmentation.synthetic(0))
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.zeros(2, 1, 16000), check_trace=False)
    audio = torch.randn(3, 1, 24000)
    with torch.inference_mode():
        torch.testing.assert_close(traced(audio), network(audio))
