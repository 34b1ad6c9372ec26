"""Sortformer with frames (1, channel, 1, frame): the same network, and nothing that the lint would move elsewhere."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import mil
from converters.formats import coreml
from converters.models import sortformer
from converters.models.sortformer import Form
from converters.networks.sortformer.stand_in import stand_in
from mil.trace import trace
from optimizations.palettize import Options as Palettes
from pipeline.types import Recording
from tests.converters.sortformers import (
    FILLED,
    LONGEST,
    OFFLINE,
    SMALLEST,
    STREAMING,
    TINY,
    check_functions,
    converted,
    names,
    palettized,
    run,
    step_inputs,
    tiny_state,
)
from verify.linting.lint import lint
from verify.linting.scope import scopes

CHANNELS = replace(STREAMING, layout="channels")
# What is fed back stays as it is, and so do kernels of 9 for each channel, as all convolutions do in the other layout.
KEPT = Palettes(nbits=6, exclude=("chunk_pre_encoder_embs_out",), weight_threshold=TINY.kernel * TINY.width)


def _assert_equal(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype
        np.testing.assert_allclose(found[name], wanted[name], atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("filled", FILLED)
def test_a_step_says_the_same_in_both_layouts(filled):
    """However little is filled, to 1e-5 (measured 5e-6)."""
    state, inputs = tiny_state(), step_inputs(STREAMING, filled)
    wanted, found = (run(sortformer.load(state, form), inputs, names(form)) for form in (STREAMING, CHANNELS))
    _assert_equal(found, wanted, 1e-5)


@pytest.mark.slow
def test_at_real_size_both_layouts_are_the_same_network():
    """Where nothing rounds, in double precision: measured 5e-14. In single precision each is 1.3e-5 from that."""
    state, form = sortformer.synthetic(0), Form()
    networks = [sortformer.load(state, replace(form, layout=layout)).double() for layout in ("frames", "channels")]
    for filled in ((112, 188, 40), (9, 90, 13), (112, 0, 0)):
        inputs = [torch.from_numpy(array) for array in step_inputs(form, filled).values()]
        with torch.inference_mode():
            doubled = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
            wanted, found = (network(*doubled) for network in networks)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("length", [200, 183, 1, 0])
def test_a_window_says_the_same_in_both_layouts(length):
    """Whole, short and empty ones."""
    mel = np.random.default_rng(0).normal(0, 1, (1, TINY.mels, OFFLINE.mel_frames)).astype(np.float32)
    inputs, state = {"mel": mel, "mel_length": np.array([length], np.int32)}, tiny_state()
    forms = OFFLINE, replace(OFFLINE, layout="channels")
    wanted, found = (run(sortformer.load(state, form), inputs, names(form)) for form in forms)
    _assert_equal(found, wanted, 1e-5)


def test_norms_that_silence_a_channel_do_so_in_both_layouts(tmp_path):
    """A trained gain of zero leaves the bias."""
    state, inputs = tiny_state(), step_inputs(STREAMING, FILLED[0])
    for name in ("encoder.layers.1.norm_out.weight", "transformer_encoder.layers.0.layer_norm_1.weight"):
        state[name] = np.where(np.arange(len(state[name])) % 3, state[name], np.float32(0))
    wanted, found = (run(sortformer.load(state, form), inputs, names(form)) for form in (STREAMING, CHANNELS))
    _assert_equal(found, wanted, 1e-5)
    program = converted(tmp_path / "step.mlpackage", CHANNELS, coreml.Options("fp32"), state)
    _assert_equal(coreml.runner(program, "declared")(inputs), wanted, 1e-5)


def test_both_layouts_are_the_same_to_apps():
    """Names, shapes, types, and what the metadata says."""
    for declared in (sortformer.inputs, sortformer.outputs, sortformer.metadata):
        assert declared(CHANNELS) == declared(STREAMING)


def test_the_other_layout_is_measured_on_calls_that_this_one_recorded():
    """The same to the last bit, so that both are told apart by what they say; a whole recording if thorough."""
    assert sortformer.is_recorded(replace(Form(), layout="channels"), thorough=False)
    assert not sortformer.is_recorded(replace(Form(), layout="channels"), thorough=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    talk, state = [Recording("talk", noise, 16000, "0" * 64)], tiny_state()
    wanted, found = (list(sortformer.recorded(state, form, talk)) for form in (STREAMING, CHANNELS))
    assert [example.name for example in found] == ["cold", "half_full", "steady", "final"]
    for one, other in zip(found, wanted, strict=True):
        assert all(np.array_equal(one.inputs[name], other.inputs[name]) for name in other.inputs)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("channels") / "step.mlpackage", CHANNELS, coreml.Options("fp32"))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("half") / "step.mlpackage", CHANNELS, coreml.Options("fp16"))


def test_a_converted_step_says_what_the_network_says(package):
    """In single precision to 1e-5, however little is filled; lengths are integers."""
    program, network = coreml.runner(package, "declared"), sortformer.load(tiny_state(), STREAMING)
    for filled in FILLED:
        inputs = step_inputs(STREAMING, filled)
        _assert_equal(program(inputs), run(network, inputs, names(STREAMING)), 1e-5)


def test_half_precision_keeps_the_decisions(half):
    """On a filled step, nearly all frames of all speakers."""
    inputs, network = step_inputs(STREAMING, FILLED[0]), sortformer.load(tiny_state(), STREAMING)
    wanted = run(network, inputs, names(STREAMING))["speaker_preds"]
    found = coreml.runner(half, "declared")(inputs)["speaker_preds"]
    assert ((found > 0.5) == (wanted > 0.5)).mean() > 0.95


def test_the_lint_has_nothing_to_say_but_that_it_is_tiny(half):
    """All of the program may run on the Neural Engine, in one piece."""
    report = lint(mil.load(half))
    assert {finding.rule.id for finding in report.findings} == {"R1"}
    assert (report.neural_engine_share, report.functions[0].crossings, report.functions[0].full) == (1.0, 0, 0)


def test_what_is_between_the_first_layer_and_the_last_has_four_axes_of_which_frames_are_the_last(half):
    """But for scores, of which all heads are made at once where they depend on distances."""
    [scope] = scopes(mil.load(half))
    kinds = Counter(operation.type for operation in scope.operations)
    assert not kinds & Counter(["linear", "gather", "scatter"])
    heads = TINY.conformer_layers * TINY.conformer_heads + TINY.transformer_layers * TINY.transformer_heads
    assert kinds["softmax"] == heads
    layers = [operation for operation in scope.operations if operation.type in ("layer_norm", "einsum")]
    assert {len(operation.result.shape) for operation in layers} == {4}
    assert {operation.result.shape[-1] for operation in layers} == {CHANNELS.frames}
    assert kinds["layer_norm"] == 5 * TINY.conformer_layers + 2 * TINY.transformer_layers
    assert not any(len(result.shape) > 4 for operation in scope.operations for result in operation.results)


@pytest.fixture(scope="module")
def longest(tmp_path_factory):
    """The longest published context in half precision."""
    path = tmp_path_factory.mktemp("longest") / "step.mlpackage"
    return mil.load(converted(path, replace(LONGEST, layout="channels"), coreml.Options("fp16"), stand_in(SMALLEST, 0)))


def _computed(program, inputs, operation):
    """Return what the first operation of a kind computes."""
    return next(array for step, array in trace(program, inputs) if step.operation == operation)


@pytest.mark.parametrize("lengths", [(188, 40), (187, 39), (0, 40), (188, 0), (100, 1), (1, 17), (0, 0)])
def test_half_precision_packs_every_frame_of_the_longest_context(longest, lengths):
    """Not one is lost, moved or mixed with another, of 609 places; behind the last there is nothing."""
    inputs = step_inputs(LONGEST, (LONGEST.mel_frames, *lengths))
    [stored] = _computed(longest, inputs, "concat")  # (row, width)
    [packed] = _computed(longest, inputs, "matmul")  # (width, frame)
    cached, queued = lengths
    first = LONGEST.spkcache, LONGEST.spkcache + LONGEST.fifo
    wanted = np.concatenate([stored[:cached], stored[first[0] : first[0] + queued], stored[first[1] :]])
    np.testing.assert_array_equal(packed.T[: len(wanted)], wanted)
    assert not packed.T[len(wanted) :].any()


def test_half_precision_counts_every_length(longest):
    """Frames of a chunk, at the edges of all 381: half precision tells whole numbers apart only up to 2048."""
    inputs = step_inputs(LONGEST, (0, 0, 0))
    for length in sorted({max(0, 8 * edge + near) for edge in range(0, 382, 20) for near in (-1, 0, 1)} | {3047, 3048}):
        if length > LONGEST.mel_frames:
            continue
        count = _computed(longest, inputs | {"chunk_lengths": np.array([length], np.int32)}, "reduce_sum")
        assert count == [-(-length // 8)]


def test_contexts_are_functions_over_one_set_of_weights(half, tmp_path):
    """In palettes too: another context costs no weights, and each function says what its own program says."""
    other = replace(CHANNELS, fifo=20)
    parts = {"short": half, "long": converted(tmp_path / "long.mlpackage", other, coreml.Options("fp16"))}
    check_functions(parts, {"short": CHANNELS, "long": other}, KEPT, tmp_path)


def test_palettes_leave_what_is_fed_back(half, tmp_path):
    """The weights that keep their precision, and those that do not, are as many numbers as in the other layout."""
    frames = converted(tmp_path / "frames.mlpackage", STREAMING, coreml.Options("fp16"))
    found = palettized(half, KEPT, tmp_path / "channels-w6.mlpackage")
    wanted = palettized(frames, replace(KEPT, exclude=("conv",)), tmp_path / "frames-w6.mlpackage")
    sizes = [sorted(np.prod(weight["shape"]) for weight in each["weights"]) for each in (found, wanted)]
    assert sizes[0] == sizes[1]
