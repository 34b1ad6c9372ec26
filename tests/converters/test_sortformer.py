"""Sortformer: held against NeMo's, its stand-in, and what its plugin declares."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mil
from converters.formats import coreml
from converters.models import sortformer
from converters.models.sortformer import Form
from converters.networks.sortformer.layout import Sizes, parameter_shapes
from converters.networks.sortformer.mel_tables import hann, slaney_filters
from converters.networks.sortformer.stand_in import stand_in
from diarization.audio import read_recording
from diarization.streaming.examples import FEATURES
from mil.package import read_package, write_package
from mil.traverse import block_of
from optimizations import palettize
from pipeline.types import QuernError, Recording
from tests.converters.sortformers import (
    FILLED,
    LONGEST,
    OFFLINE,
    PREPROCESSOR,
    SMALLEST,
    STREAMING,
    TINY,
    check_functions,
    configuration,
    converted,
    names,
    run,
    saved,
    step_inputs,
    tiny_state,
    write_nemo,
)
from tests.fixtures import FIXTURES, needs_fixtures
from verify.linting.lint import lint

ROOT = Path(__file__).parents[2]

LAYOUTS = ["frames", "channels"]


def _recordings():
    return [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]


def _write(path, state=None, config=None, sizes=TINY, **options):
    return write_nemo(path, config or configuration(sizes), saved(state or tiny_state(), sizes), **options)


def test_a_checkpoint_is_read_with_its_settings(tmp_path):
    """Every tensor as it is in the archive, the unused ones left out, and the numbers of heads beside them."""
    state = tiny_state()
    found = sortformer.read({"tiny.nemo": _write(tmp_path / "tiny.nemo", state)})
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer_encoder": {"pre_ln": True}}, "transformer_encoder.pre_ln is 'True'; only False"),
        ({"encoder": {"subsampling": "vggnet"}}, "encoder.subsampling is 'vggnet'; only 'dw_striding'"),
        ({"encoder": {"att_context_size": [70, 13]}}, r"encoder.att_context_size is '\[70, 13\]'"),
        ({"encoder": {"n_heads": "many"}}, "encoder.n_heads is 'many'; expected a whole number"),
        ({"encoder": {"n_heads": 5}}, "5 attention heads cannot share a width of 32"),
        ({"preprocessor": {"normalize": "per_feature"}}, "preprocessor.normalize is 'per_feature'; only 'NA' or False"),
        ({"preprocessor": {"window_stride": 0.02}}, "preprocessor.window_stride is '0.02'; only 0.01"),
    ],
)
def test_a_configuration_of_another_computation_is_refused(tmp_path, change, message):
    """One sentence: what it says, and what could be converted."""
    config = configuration()
    for part, settings in change.items():
        config[part] = config[part] | settings
    with pytest.raises(QuernError, match=message):
        sortformer.read({"tiny.nemo": _write(tmp_path / "tiny.nemo", config=config)})


def test_another_networks_tensors_are_refused(tmp_path):
    """Named: what is missing, too many, or misshapen."""
    state = tiny_state()
    bias = state.pop("encoder.layers.1.norm_out.bias")
    state |= {"encoder.layers.1.other": bias, "sortformer_modules.encoder_proj.bias": bias}
    with pytest.raises(
        QuernError, match=r"missing: .*norm_out.bias; unexpected: '.*other'; wrong shape: .*encoder_proj"
    ):
        sortformer.read({"tiny.nemo": _write(tmp_path / "tiny.nemo", state)})


def test_a_form_of_other_sizes_than_the_checkpoint_is_refused():
    """With what to declare."""
    with pytest.raises(QuernError, match="the variant declares 512 and the checkpoint has 32; declare width: 32"):
        sortformer.load(tiny_state(), replace(STREAMING, width=512))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "online"}, "kind: 'online'"),
        ({"chunk": 0}, "chunk: 0; expected a whole number from 1 on"),
        ({"right": -1}, "right: -1; expected a whole number from 0 on"),
        ({"fifo": 4.5}, "fifo: 4.5"),
        ({"window_s": 0.005}, "window_s: 0.005; expected a multiple of 0.01 s"),
        ({"window_s": True}, "window_s: True"),
        ({"layout": "rows"}, "layout: 'rows'; expected frames or channels"),
        ({"layout": "channels", "kind": "preprocessor"}, "layout: a preprocessor has none; leave it out"),
        ({"layout": "channels", "chunk": 2000}, "layout: channels: 2236 frames; it counts up to 2048; use frames"),
    ],
)
def test_forms_that_mean_nothing_are_refused(options, message):
    """Each by the name of its option."""
    with pytest.raises(ValueError, match=message):
        Form(**options)


@pytest.mark.parametrize(
    ("form", "context", "frames"),
    [
        (Form(), 14, 242),
        (Form(fifo=188, update_period=144), 14, 390),
        (Form(chunk=340, right=40, update_period=300), 381, 609),
        (Form(chunk=25), 33, 261),
    ],
)
def test_streaming_forms_have_the_interface_that_apps_load(form, context, frames):
    """Names, shapes and types of the four published contexts, and all of the metadata that guards them."""
    declared = {t.name: (t.shape, t.dtype) for t in (*sortformer.inputs(form), *sortformer.outputs(form))}
    assert declared == {
        "chunk": ((1, 8 * context, 128), "float32"),
        "chunk_lengths": ((1,), "int32"),
        "spkcache": ((1, 188, 512), "float32"),
        "spkcache_lengths": ((1,), "int32"),
        "fifo": ((1, form.fifo, 512), "float32"),
        "fifo_lengths": ((1,), "int32"),
        "speaker_preds": ((1, frames, 4), "float32"),
        "chunk_pre_encoder_embs_out": ((1, context, 512), "float32"),
        "chunk_pre_encoder_lengths_out": ((1,), "int32"),
    }
    assert sortformer.metadata(form) == {
        "chunk_len": str(form.chunk),
        "chunk_left_context": "1",
        "chunk_right_context": str(form.right),
        "fifo_len": str(form.fifo),
        "spkcache_len": "188",
        "spkcache_update_period": str(form.update_period),
        "subsampling_factor": "8",
        "frame_duration": "0.08",
        "mel_feature_frames": str(8 * form.chunk),
    }


def test_the_offline_form_and_the_preprocessor_fit_together():
    """30.72 s: the preprocessor's outputs are the window's inputs; 384 frames come out."""
    [preds] = sortformer.outputs(Form(kind="offline"))
    assert (preds.name, preds.shape) == ("speaker_preds", (1, 384, 4))
    assert sortformer.inputs(Form(kind="offline")) == sortformer.outputs(Form(kind="preprocessor"))
    assert [t.shape for t in sortformer.inputs(Form(kind="offline"))] == [(1, 128, 3072), (1,)]
    assert sortformer.inputs(Form(kind="preprocessor"))[0].shape == (1, 491520)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("filled", FILLED)
def test_what_is_behind_the_lengths_plays_no_part(filled, layout):
    """Other noise in the padding of chunk, cache and fifo changes nothing, and predictions behind the end are 0."""
    network = sortformer.load(tiny_state(), replace(STREAMING, layout=layout))
    inputs, other = step_inputs(STREAMING, filled), step_inputs(STREAMING, filled, seed=9)
    for name in ("chunk", "spkcache", "fifo"):
        other[name][:, : int(inputs[f"{name}_lengths"][0])] = inputs[name][:, : int(inputs[f"{name}_lengths"][0])]
    found, again = (run(network, each, names(STREAMING)) for each in (inputs, other))
    assert all(np.array_equal(found[name], again[name]) for name in found)
    frames = filled[1] + filled[2] + -(-filled[0] // 8)
    assert found["chunk_pre_encoder_lengths_out"] == [-(-filled[0] // 8)]
    assert (found["speaker_preds"][0, :frames] > 0).all()
    assert not found["speaker_preds"][0, frames:].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_past_in_two_parts_is_a_past_in_one(layout):
    """Frames that are all in the cache are the same as the first of them in the cache and the others in the fifo."""
    network = sortformer.load(tiny_state(), replace(STREAMING, layout=layout))
    inputs = step_inputs(STREAMING, (48, 20, 0))
    parted = {name: array.copy() for name, array in inputs.items()}
    parted["fifo"][:, :8] = inputs["spkcache"][:, 12:20]
    parted |= {"spkcache_lengths": np.array([12], np.int32), "fifo_lengths": np.array([8], np.int32)}
    whole, parts = (run(network, each, names(STREAMING))["speaker_preds"] for each in (inputs, parted))
    np.testing.assert_array_equal(whole, parts)


def test_a_step_without_a_past_is_a_window():
    """A cold start predicts for its chunk what the offline form predicts for a window of the same mel."""
    state, inputs = tiny_state(), step_inputs(STREAMING, (48, 0, 0))
    offline = sortformer.load(state, replace(OFFLINE, window_s=0.48))
    step = run(sortformer.load(state, STREAMING), inputs, names(STREAMING))["speaker_preds"][:, :6]
    window = {"mel": np.ascontiguousarray(inputs["chunk"].transpose(0, 2, 1)), "mel_length": inputs["chunk_lengths"]}
    np.testing.assert_allclose(run(offline, window, ["speaker_preds"])["speaker_preds"], step, atol=1e-6)


@pytest.fixture(scope="module")
def upstream():
    """NeMo's model with the tiny stand-in's tensors."""
    pytest.importorskip("nemo.utils", reason="NeMo is not installed")
    from converters.networks.sortformer.upstream import nemo_model

    return nemo_model(tiny_state(), TINY)


def _held(upstream, state, form, cases, tolerance):
    from converters.networks.sortformer.upstream import nemo_runner

    network = sortformer.load(state, form)
    theirs = nemo_runner(upstream, form.kind, form.mel_frames if form.kind == "preprocessor" else form.frames)
    for inputs in cases:
        wanted, found = theirs(inputs), run(network, inputs, names(form))
        assert wanted.keys() == found.keys()
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.reference
def test_a_step_says_what_nemo_says(upstream):
    """However little is filled, to 1e-5 (measured 2e-7); NeMo has no step without any frame."""
    _held(upstream, tiny_state(), STREAMING, [step_inputs(STREAMING, filled) for filled in FILLED[:-1]], 1e-5)


@pytest.mark.reference
def test_a_window_says_what_nemo_says(upstream):
    """Whole and short windows, to 1e-5 (measured 1e-7)."""
    mel = np.random.default_rng(0).normal(0, 1, (1, TINY.mels, OFFLINE.mel_frames)).astype(np.float32)
    cases = [{"mel": mel, "mel_length": np.array([length], np.int32)} for length in (200, 183, 1)]
    _held(upstream, tiny_state(), OFFLINE, cases, 1e-5)


@pytest.mark.reference
def test_the_preprocessor_says_what_nemo_says(upstream):
    """Whole, short and empty windows, to 1e-4 in log power (measured 4e-6); noise that grows louder."""
    noise = np.random.default_rng(0).normal(0, 1, (1, PREPROCESSOR.samples)) * np.linspace(0, 1, PREPROCESSOR.samples)
    audio = noise.astype(np.float32)
    cases = [{"audio": audio, "audio_length": np.array([n], np.int32)} for n in (32000, 31999, 12345, 160, 0)]
    _held(upstream, tiny_state(), PREPROCESSOR, cases, 1e-4)


@pytest.mark.reference
def test_the_tables_are_nemos(upstream):
    """Window and mel filters that follow from their definitions are those that NeMo and librosa make."""
    tables = upstream.state_dict()
    np.testing.assert_allclose(hann(400), tables["preprocessor.featurizer.window"], atol=3e-7)
    np.testing.assert_allclose(slaney_filters(TINY.mels), tables["preprocessor.featurizer.fb"][0], atol=1e-8)


@pytest.mark.reference
@pytest.mark.slow
def test_at_real_size_a_step_and_a_window_say_what_nemo_says():
    """17 and 18 layers, 117.7 million numbers: to 1e-5 where nothing rounds, in double precision.

    In single precision the stand-in, decisive as it is, shows each network's own rounding: on a step of real speech
    NeMo's was 1.4e-5 from double precision, ours 8e-6, and the two 1.3e-5 apart.
    """
    pytest.importorskip("nemo.utils", reason="NeMo is not installed")
    from converters.networks.sortformer.upstream import nemo_model

    state = sortformer.synthetic(0)
    upstream = nemo_model(state, Sizes())
    form, offline = Form(), Form(kind="offline")
    _held(upstream, state, form, [step_inputs(form, filled) for filled in ((112, 188, 40), (9, 90, 13))], 5e-5)
    mel = np.random.default_rng(0).normal(0, 1, (1, 128, 3072)).astype(np.float32)
    _held(upstream, state, offline, [{"mel": mel, "mel_length": np.array([3001], np.int32)}], 5e-5)
    inputs = [torch.from_numpy(array) for array in step_inputs(form, (112, 188, 40)).values()]
    inputs = [tensor.double() if tensor.is_floating_point() else tensor.long() for tensor in inputs]
    with torch.inference_mode():
        wanted = upstream.double().forward_for_export(*inputs)
        found = sortformer.load(state, form).double()(*inputs)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5, rtol=0)


def test_a_stand_in_is_the_same_every_time_and_another_for_another_seed():
    """Same seed, same bytes; every layer different; named and shaped as the trained tensors are."""
    state, again, other = tiny_state(0), tiny_state(0), tiny_state(1)
    assert all(np.array_equal(state[name], again[name]) for name in state)
    assert {name: state[name].shape for name in parameter_shapes(TINY)} == parameter_shapes(TINY)
    drawn = [name for name in parameter_shapes(TINY) if "featurizer" not in name and "spks.bias" not in name]
    assert not any(np.array_equal(state[name], other[name]) for name in drawn)
    for first in (name for name in drawn if ".layers.0." in name):
        assert not np.array_equal(state[first], state[first.replace(".layers.0.", ".layers.1.")])


def _predictions(state, form, preprocessor):
    """Return predictions (frame, speaker) of all recordings, window by window."""
    mel_of, network = sortformer.load(state, preprocessor), sortformer.load(state, form)
    found = []
    for example in sortformer.examples(preprocessor, _recordings()):
        mel = run(mel_of, example.inputs, ["mel", "mel_length"])
        frames = -(-int(mel["mel_length"][0]) // 8)
        found.append(run(network, mel, ["speaker_preds"])["speaker_preds"][0, :frames])
    return np.concatenate(found)


def _assert_decisive_and_varied(predictions, least):
    active = predictions > 0.5
    assert (active.mean(axis=0) > least).all()  # each speaker
    assert ((active.sum(axis=1) == 0).mean() > least, (active.sum(axis=1) > 1).mean() > least) == (True, True)
    assert (predictions.sum(axis=1) < 0.2).mean() > least / 2  # silence that the speaker cache collects
    assert (np.abs(predictions - 0.5) > 0.4).mean() > 0.5
    assert predictions.std(axis=0).min() > 0.1


@needs_fixtures
def test_the_tiny_stand_in_is_decisive_and_varied_on_speech():
    """On minutes of speech all four speak, overlap and are silent, mostly with more than 0.9 or less than 0.1."""
    preprocessor, offline = replace(PREPROCESSOR, window_s=30.72), replace(OFFLINE, window_s=30.72)
    _assert_decisive_and_varied(_predictions(tiny_state(), offline, preprocessor), 0.02)


@needs_fixtures
@pytest.mark.slow
def test_the_stand_in_is_decisive_and_varied_on_speech():
    """The same at real size; its large matrices hold more than 10,000 values that half precision tells apart."""
    state = sortformer.synthetic(0)
    large = [tensor for name, tensor in state.items() if tensor.size > 200_000 and "featurizer" not in name]
    assert len(large) > 150
    assert min(len(np.unique(tensor.astype(np.float16))) for tensor in large) > 10_000
    assert all(np.isfinite(tensor.astype(np.float16)).all() for tensor in state.values())
    _assert_decisive_and_varied(_predictions(state, Form(kind="offline"), Form(kind="preprocessor")), 0.02)


def _recording(seconds, name="talk"):
    samples = np.random.default_rng(0).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)
    return Recording(name, samples, 16000, "0" * 64)


def test_windows_follow_each_other_and_the_last_is_short():
    """Five seconds in windows of two: the third is filled by half, and shown so."""
    found = list(sortformer.examples(PREPROCESSOR, [_recording(5)]))
    assert [(e.name, int(e.inputs["audio_length"][0])) for e in found] == [
        ("talk@0s", 32000),
        ("talk@2s", 32000),
        ("talk@4s", 16000),
    ]
    mels = [int(e.inputs["mel_length"][0]) for e in sortformer.examples(OFFLINE, [_recording(5)])]
    assert mels == [200, 200, 100]
    assert len(list(sortformer.examples(OFFLINE, [_recording(5)], thorough=True))) == 7


def test_a_stream_lasts_until_its_cache_is_compressed():
    """One example of all recordings in a row, cut where that has happened; `drive` takes it to the network."""
    [example] = sortformer.examples(STREAMING, [_recording(3, "one"), _recording(30, "two")])
    [thorough] = sortformer.examples(STREAMING, [_recording(3, "one"), _recording(30, "two")], thorough=True)
    assert len(example.inputs[FEATURES]) < len(thorough.inputs[FEATURES]) == 3300
    network = sortformer.load(tiny_state(), STREAMING)
    found = sortformer.drive(lambda inputs: run(network, inputs, names(STREAMING)), example.inputs, STREAMING)
    assert found["compressions"][-1] >= 1
    assert len(found["speaker_preds"]) == -(-len(example.inputs[FEATURES]) // 8)


def test_no_recordings_no_examples():
    """Of any kind."""
    assert [list(sortformer.examples(form, [])) for form in (STREAMING, OFFLINE, PREPROCESSOR)] == [[], [], []]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sortformer")
    return converted(folder / "step.mlpackage", STREAMING, coreml.Options("fp32"))


def test_a_converted_step_says_what_the_network_says(package):
    """In single precision to 1e-5, however little is filled; lengths are integers."""
    program, network = coreml.runner(package, "declared"), sortformer.load(tiny_state(), STREAMING)
    for filled in FILLED:
        inputs = step_inputs(STREAMING, filled)
        wanted, found = run(network, inputs, names(STREAMING)), program(inputs)
        assert found["chunk_pre_encoder_lengths_out"].dtype == np.int32
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, rtol=0, err_msg=name)


def test_nothing_passes_through_a_step(package):
    """No input is an output, under its own name or another, and the interface is the declared one."""
    spec = read_package(package).spec
    taken = {feature.name for feature in spec.description.input}
    given = {feature.name for feature in spec.description.output}
    assert taken == {tensor.name for tensor in sortformer.inputs(STREAMING)}
    assert given == {tensor.name for tensor in sortformer.outputs(STREAMING)}
    assert not taken & given
    assert spec.description.metadata.userDefined["spkcache_update_period"] == "7"


def test_half_precision_keeps_the_decisions(tmp_path):
    """On a filled step, nearly all frames of all speakers."""
    program = coreml.runner(converted(tmp_path / "step.mlpackage", STREAMING, coreml.Options("fp16")), "declared")
    inputs, network = step_inputs(STREAMING, FILLED[0]), sortformer.load(tiny_state(), STREAMING)
    wanted = run(network, inputs, names(STREAMING))["speaker_preds"]
    assert ((program(inputs)["speaker_preds"] > 0.5) == (wanted > 0.5)).mean() > 0.95


@pytest.fixture(scope="module")
def longest(tmp_path_factory):
    """The longest published context in half precision."""
    path = tmp_path_factory.mktemp("longest") / "step.mlpackage"
    return converted(path, LONGEST, coreml.Options("fp16"), stand_in(SMALLEST, 0))


def _part(package, given, wanted, path):
    """Write the part of a program that makes one output of one input; return it, to be run as the program declares."""
    spec = read_package(package).spec
    (function,) = spec.mlProgram.functions.values()
    block = block_of(function)
    needed, kept = {wanted}, []
    for operation in reversed(block.operations):
        if needed.intersection(output.name for output in operation.outputs):
            kept.append(operation)
            needed.update(a.name for argument in operation.inputs.values() for a in argument.arguments if a.name)
    for features, name in (
        (function.inputs, given),
        (spec.description.input, given),
        (spec.description.output, wanted),
    ):
        remaining = [feature for feature in features if feature.name == name]
        del features[:]
        features.extend(remaining)
    del block.operations[:]
    block.operations.extend(reversed(kept))
    block.outputs[:] = [wanted]
    weights = {f"weights/{file.name}": file for file in package.rglob("weight.bin")}
    write_package(spec, weights, path)
    return coreml.runner(path, "declared")


def test_half_precision_counts_every_length(longest, tmp_path):
    """Frames of a chunk, from none to all of 381: half precision tells whole numbers apart only up to 2048."""
    given, wanted = "chunk_lengths", "chunk_pre_encoder_lengths_out"
    count = _part(longest, given, wanted, tmp_path / "count.mlpackage")
    found = [int(count({given: np.array([length], np.int32)})[wanted][0]) for length in range(8 * 381 + 1)]
    assert found == [-(-length // 8) for length in range(8 * 381 + 1)]


def test_half_precision_counts_the_frames_of_audio(tmp_path):
    """At the edges of frames all over a window of 30.72 s, whose samples half precision cannot count at all."""
    form = replace(PREPROCESSOR, window_s=30.72)
    package = converted(tmp_path / "mel.mlpackage", form, coreml.Options("fp16"))
    count = _part(package, "audio_length", "mel_length", tmp_path / "count.mlpackage")
    lengths = [n for edge in range(0, 3073, 64) for n in (160 * edge - 1, 160 * edge, 160 * edge + 1) if n >= 0]
    lengths = [n for n in lengths if n <= form.samples]
    found = [int(count({"audio_length": np.array([n], np.int32)})["mel_length"][0]) for n in lengths]
    assert found == [n // 160 for n in lengths]


def test_nothing_in_a_long_context_is_too_long_for_the_neural_engine(longest):
    """No axis of all scores, none of which it could address, and no division of lengths in half precision."""
    rules = {finding.rule.id for finding in lint(mil.load(longest)).findings}
    assert not rules & {"D1", "P3"}


def test_contexts_are_functions_over_one_set_of_weights(package, tmp_path):
    """In palettes too: another context costs no weights, and each function says what its own program says."""
    other = replace(STREAMING, fifo=20)
    parts = {"short": package, "long": converted(tmp_path / "long.mlpackage", other, coreml.Options("fp32"))}
    kept = palettize.Options(nbits=6, exclude=("conv",))
    check_functions(parts, {"short": STREAMING, "long": other}, kept, tmp_path)


@pytest.mark.parametrize("form", [OFFLINE, PREPROCESSOR], ids=["offline", "preprocessor"])
def test_windows_convert_too(tmp_path, form):
    """To 1e-4 of the network in single precision, on a window that is not full."""
    program = coreml.runner(converted(tmp_path / "window.mlpackage", form, coreml.Options("fp32")), "declared")
    *_, example = sortformer.examples(form, [_recording(3)])
    wanted = run(sortformer.load(tiny_state(), form), example.inputs, names(form))
    found = program(example.inputs)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-4, rtol=0, err_msg=name)


def test_reading_the_matrix_imports_nothing_heavy():
    """The plugin's module is imported without torch, coremltools or NeMo."""
    program = (
        "import sys, converters.models.sortformer; "
        "print([m for m in ('torch', 'coremltools', 'nemo') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_making_a_network_draws_no_random_numbers():
    """Weights come from the state alone, so nothing is filled with noise first."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sortformer.load(tiny_state(), STREAMING)
    assert torch.equal(before, torch.get_rng_state())


def test_a_stand_in_of_other_sizes_has_them():
    """Widths and counts of layers are read back from the tensors."""
    sizes = replace(TINY, conformer_layers=3, transformer_layers=1, speakers=5, kernel=5, scaled=False)
    form = replace(STREAMING, speakers=5)
    found = run(sortformer.load(stand_in(sizes, 0), form), step_inputs(form, FILLED[0]), names(form))
    assert found["speaker_preds"].shape == (1, 40, 5)
