"""Artifacts broken on purpose, each in the way that a check exists to find, and the check that says no.

The network is the trained one, on windows of three seconds of real speech, and the limits are those of variants.yaml.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import mil
from mil.compile import compile_package
from mil.errors import MilError
from mil.package import read_package
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.tensors import write_tensors
from pipeline.types import Arrays, CheckResult, Measurement, QuernError, Subject, Variant
from pipeline.verdict import judge
from tests.fixtures import FIXTURES, needs_fixtures
from tests.verify import broken
from tests.verify.programs import interface, written
from tests.verify.test_contract import STRINGS, sortformer
from verify import alias, bundle, contract, der, lint, parity, size

pytestmark = [needs_fixtures, pytest.mark.slow]

WINDOW_S, RATE_HZ = 3, 16000
LSTM = [f"{name}{side}" for name in ("weight_ih", "weight_hh", "bias") for side in ("", "_back")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sabotage")


def converted(window_s: float, destination: Path) -> Path:
    """Write the trained network as a package in half precision."""
    from converters.formats import coreml
    from converters.models import segmentation

    form = segmentation.Form(window_s=window_s)
    state = segmentation.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})
    module, ports = segmentation.load(state, form), (segmentation.inputs(form), segmentation.outputs(form))
    coreml.convert(module, *ports, segmentation.metadata(form), coreml.Options(), destination)
    return destination


@pytest.fixture(scope="module")
def sound(folder: Path) -> Path:
    """Return the sound package, whose windows are short."""
    return converted(WINDOW_S, folder / "sound.mlpackage")


@pytest.fixture(scope="module")
def published(folder: Path) -> Path:
    """Return the sound package as apps load it: windows of ten seconds, under its published name."""
    return converted(10, folder / "pyannote_segmentation.mlpackage")


@pytest.fixture(scope="module")
def windows() -> dict[str, np.ndarray]:
    """Return a recording in windows (1, 1, sample), by name."""
    from diarization.audio import read_recording

    samples = read_recording(FIXTURES / "audio" / "sample.wav").samples
    cut = {start_s: samples[start_s * RATE_HZ : (start_s + WINDOW_S) * RATE_HZ] for start_s in range(0, 27, WINDOW_S)}
    return {f"sample@{start_s}s": window[np.newaxis, np.newaxis] for start_s, window in cut.items()}


def ran(package: Path, windows: dict[str, np.ndarray], precision: str = "declared") -> Arrays:
    program = mil.load(package)
    return {f"{name}/segments": program.run({"audio": audio}, precision)["segments"] for name, audio in windows.items()}


@pytest.fixture(scope="module")
def exact(sound: Path, windows: dict[str, np.ndarray]) -> Arrays:
    """Return what the sound program puts out in single precision."""
    return ran(sound, windows, "float32")


def declared_variant(name: str) -> Variant:
    """Return a variant as it is declared, with its limits."""
    return next(each for each in read_matrix(ROOT / "variants.yaml").variants if each.id == name)


@pytest.fixture
def held(windows: dict[str, np.ndarray], exact: Arrays, tmp_path: Path) -> Callable[..., dict[str, CheckResult]]:
    """Return what holds a package against the ladder and the limits of a variant: results by name."""
    from converters.models import segmentation

    def hold(package: Path, variant: str = "segmentation-3.0/fp16") -> dict[str, CheckResult]:
        rungs: dict[str, Path | str] = dict.fromkeys(("upstream", "network"), "not part of this test")
        for rung, arrays in (("float32", exact), ("declared", ran(package, windows))):
            rungs[rung] = tmp_path / f"{rung}.safetensors"
            write_tensors(arrays, tmp_path / f"{rung}.safetensors")
        outputs = segmentation.outputs(segmentation.Form(window_s=WINDOW_S))
        found = parity.measure(Subject((), outputs, rungs=rungs))
        return {each.name: each for each in judge(declared_variant(variant), "parity", found, trained=True)}

    return hold


def failed(results: dict[str, CheckResult]) -> set[str]:
    return {name for name, result in results.items() if result.outcome == "fail"}


def test_the_sound_artifact_passes(sound: Path, held: Callable, published: Path, tmp_path: Path) -> None:
    """What follows fails for what was done to it, and for nothing else."""
    assert failed(held(sound)) == set()
    made = compile_package(published, tmp_path).path
    assert checked(published, made) == {"alias": [0, 0], "contract": [0], "bundle": [0]}


def checked(package: Path, made: Path) -> dict[str, list[float]]:
    """Return how much the checks find that only read."""
    subject = Subject((), (), package, made)
    found: dict[str, list[Measurement]] = {
        "alias": alias.measure(subject),
        "contract": contract.measure(subject),
        "bundle": bundle.measure(subject),
    }
    return {name: [each.value for each in values if each.value is not None] for name, values in found.items()}


def test_an_aliased_output_is_found(published: Path, tmp_path: Path) -> None:
    """In the package, in what was compiled from it, and by the contract."""
    package = broken.edited(published, tmp_path / published.name, broken.aliased)
    found = checked(package, compile_package(package, tmp_path).path)
    assert found["alias"] == [1, 1]
    assert found["contract"] == [1]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (broken.renamed, "name: input: expected `audio`, found `waveform`"),
        (broken.half_outputs, "dtype: output `segments`: expected float32, found float16"),
        (broken.half_inputs, "dtype: input `audio`: expected float32, found float16"),
    ],
)
def test_an_interface_that_no_app_expects_is_found(
    published: Path, tmp_path: Path, edit: Callable[[Any], None], sentence: str
) -> None:
    """The program is sound in itself: it loads, and the contract alone says no."""
    package = broken.edited(published, tmp_path / published.name, edit)
    made = compile_package(package, tmp_path).path
    [found] = contract.measure(Subject((), (), package, made))
    assert found.value
    assert sentence in found.note
    assert checked(package, made) == {"alias": [0, 0], "contract": [found.value], "bundle": [0]}


def test_what_apps_and_devices_cannot_read_is_found_by_the_lint(published: Path, tmp_path: Path) -> None:
    """Rows of half-precision outputs are padded (P5), whatever the name of the file."""
    package = broken.edited(published, tmp_path / "anything.mlpackage", broken.half_outputs)

    def errors(path: Path) -> CheckResult:
        found = lint.measure(Subject((), (), path))
        return next(each for each in judge(declared_variant("segmentation-3.0/fp16"), "lint", found, trained=True))

    assert errors(published).outcome == "pass"
    assert (errors(package).outcome, errors(package).note[:3]) == ("fail", "P5:")


def test_forgotten_palettes_are_found_by_the_size(published: Path) -> None:
    """The network in half precision is twice what one in 8-bit palettes may be."""
    found = size.measure(Subject((), (), published))
    outcomes = [
        list(judge(declared_variant(f"segmentation-3.0/{name}"), "size", found, True)) for name in ("fp16", "w8")
    ]
    assert [[each.outcome for each in results] for results in outcomes] == [["pass"], ["fail"]]


def test_missing_metadata_is_found(tmp_path: Path) -> None:
    """A streaming model without the strings by which an app sees that it is configured for another."""
    package, made = written(interface(*sortformer()), tmp_path, "Sortformer_v2.1")
    [found] = contract.measure(Subject((), (), package, made))
    assert found.value == len(STRINGS)
    assert all(f"`{key}`" in found.note for key in STRINGS)


def test_truncated_weights_are_found(published: Path, tmp_path: Path) -> None:
    """The bundle is not whole, and running it ends in a sentence that names the file."""
    made = compile_package(published, tmp_path / "compiled").path
    cut = Path(shutil.copytree(made, tmp_path / made.name))
    weights = cut / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert checked(published, cut)["bundle"] == [2]  # against itself, and against the package
    with pytest.raises(MilError, match=rf"{weights}.* bytes"):
        mil.load(cut).run({"audio": np.zeros((1, 1, 160000), np.float32)})


def test_a_second_softmax_is_found_where_argmax_is_blind(sound: Path, held: Callable, tmp_path: Path) -> None:
    """Every frame has the same likeliest class; only that they are no log probabilities any more tells it."""
    before, after = held(sound), held(broken.edited(sound, tmp_path / "softmax.mlpackage", broken.softmaxed))
    for name in ("parity.argmax", "parity.argmax_worst_window"):
        assert after[name].measured == before[name].measured
        assert after[name].outcome == "pass"
    assert after["parity.normalised"].outcome == "fail"
    assert before["parity.normalised"].measured <= 1e-3 < 1 < after["parity.normalised"].measured


def test_another_activation_is_found(sound: Path, held: Callable, tmp_path: Path) -> None:
    """ReLU for leaky ReLU loses a hundredth of half of the values."""
    results = held(broken.edited(sound, tmp_path / "relu.mlpackage", broken.with_relu))
    assert failed(results) >= {"parity.argmax", "parity.max_difference"}


def test_swapped_gates_are_found(sound: Path, held: Callable, tmp_path: Path) -> None:
    """Of one LSTM layer of four: the order that PyTorch has, where MIL has another."""
    names = broken.inputs_of(sound, "lstm", tuple(LSTM))
    package = broken.reweighted(sound, tmp_path / "gates.mlpackage", dict.fromkeys(names, broken.gates_swapped))
    assert failed(held(package)) >= {"parity.argmax", "parity.argmax_worst_window", "parity.max_difference"}


def test_turns_of_a_broken_network_are_found_by_the_error_rate(
    sound: Path, windows: dict[str, np.ndarray], exact: Arrays, tmp_path: Path
) -> None:
    """Who spoke when is another, held against single precision; the sound artifact's is the same."""
    from converters.models import segmentation

    names = broken.inputs_of(sound, "lstm", tuple(LSTM))
    wrong = broken.reweighted(sound, tmp_path / "gates.mlpackage", dict.fromkeys(names, broken.gates_swapped))
    outputs = segmentation.outputs(segmentation.Form(window_s=WINDOW_S))

    def divergence(package: Path) -> str:
        rungs: dict[str, Path | str] = dict.fromkeys(("upstream", "network"), "not part of this test")
        for rung, arrays in (("float32", exact), ("declared", ran(package, windows))):
            rungs[rung] = tmp_path / f"{rung}.safetensors"
            write_tensors(arrays, tmp_path / f"{rung}.safetensors")
        found = der.measure(Subject((), outputs, rungs=rungs, recordings=(FIXTURES / "audio" / "sample.wav",)))
        results = judge(declared_variant("segmentation-3.0/fp16"), "der", found, trained=True)
        return next(each.outcome for each in results if each.name == "der.divergence")

    assert (divergence(sound), divergence(wrong)) == ("pass", "fail")


@pytest.mark.parametrize(("kind", "names"), [("conv", ["weight"]), ("lstm", LSTM), ("linear", ["weight"])])
def test_the_operation_that_was_broken_is_the_one_that_parts(
    sound: Path, windows: dict[str, np.ndarray], tmp_path: Path, kind: str, names: list[str]
) -> None:
    """In the front end, in the middle and in the head: by name, against the program it was made of."""
    from converters.formats import coreml

    weights = broken.inputs_of(sound, kind, tuple(names))
    wrong = broken.reweighted(sound, tmp_path / "wrong.mlpackage", dict.fromkeys(weights, broken.shuffled))
    operation = next(each for each in broken.main(read_package(sound).spec).operations if each.type == kind)
    told = coreml.parting(sound, wrong, {"audio": windows["sample@9s"]})
    assert told.startswith(f"parts from single precision at {kind} `{operation.outputs[0].name}`, by ")
    assert coreml.parting(sound, sound, {"audio": windows["sample@9s"]}) != told


def test_shuffled_weights_of_one_layer_are_found(sound: Path, held: Callable, tmp_path: Path) -> None:
    """Same numbers, same distribution, another order."""
    names = broken.inputs_of(sound, "linear", ("weight",))
    package = broken.reweighted(sound, tmp_path / "shuffled.mlpackage", dict.fromkeys(names, broken.shuffled))
    assert failed(held(package)) >= {"parity.argmax", "parity.argmax_worst_window", "parity.max_difference"}


def test_one_palette_of_a_wrong_scale_is_found(sound: Path, held: Callable, tmp_path: Path) -> None:
    """The artifact with sound palettes is within its limits; with one that is a half too large it is not."""
    from optimizations import palettize
    from tests.optimizations.packages import DiskMemo

    [chosen] = declared_variant("segmentation-3.0/w8").optimize
    memo, good = DiskMemo(tmp_path / "memo"), tmp_path / "good.mlpackage"
    decided = palettize.apply(sound, chosen.options, memo, good)
    assert failed(held(good, "segmentation-3.0/w8")) == set()
    name = decided["weights"][0]["name"].rpartition("/")[2]
    scaled = broken.reweighted(good, tmp_path / "scaled.mlpackage", {name: lambda palette: palette * 1.5})
    assert failed(held(scaled, "segmentation-3.0/w8")) >= {"parity.argmax", "parity.argmax_worst_window"}


def test_a_damaged_palette_is_found_by_the_pass_itself(sound: Path, tmp_path: Path) -> None:
    """It decodes what it wrote and holds it against the weights, so a palette that the store spoiled gets nowhere."""
    from optimizations import palettize
    from tests.optimizations.packages import DiskMemo

    memo, options = DiskMemo(tmp_path / "memo"), palettize.Options(4, weight_threshold=100_000)
    palettize.apply(sound, options, memo, tmp_path / "good.mlpackage")
    spoilt = next((tmp_path / "memo").glob("*/*.npz"))
    with np.load(spoilt) as arrays:
        kept = dict(arrays)
    np.savez(spoilt, **(kept | {"entries": (kept["entries"] * 1.5).astype(kept["entries"].dtype)}))
    with pytest.raises(QuernError, match="decoded values differ from the original"):
        palettize.apply(sound, options, memo, tmp_path / "bad.mlpackage")


MATRIX = """
checkpoints:
  segmentation-3.0: {network: segmentation, licence: MIT}
variants:
  segmentation:
    checkpoint: [segmentation-3.0]
    file: pyannote_segmentation
    form: {window_s: 2}
    checks: [alias, bundle, parity]
    axes:
      precision:
        fp16: {}
        w1: {optimize: [palettize: {nbits: 1}]}
        w8: {optimize: [palettize: {nbits: 8, exclude: [conv, linear]}]}
    limits:
      alias.package: {most: 0, unit: findings, reason: it crashes, required: build}
      bundle.failures: {most: 0, unit: checks, reason: it is whole, required: build}
      parity.argmax: {least: 0.98, unit: share of frames, reason: the same speakers, required: build}
"""


def test_one_broken_variant_fails_the_matrix_and_all_others_are_reported(tmp_path: Path) -> None:
    """Status 1, the variant, the measurement and the operation; the two sound ones pass beside it."""
    (tmp_path / "variants.yaml").write_text(MATRIX)
    (tmp_path / "audio").mkdir()
    samples, rate = soundfile.read(FIXTURES / "audio" / "sample.wav", start=6 * RATE_HZ, frames=4 * RATE_HZ)
    soundfile.write(tmp_path / "audio" / "sample.wav", samples, rate)
    options = {"--matrix": tmp_path / "variants.yaml", "--audio": tmp_path / "audio", "--out": tmp_path / "out"}
    options |= {"--weights-dir": FIXTURES, "--jobs": 1}
    command = [sys.executable, ROOT / "build_all_variants.py", "--json"]
    command += [value for name, each in options.items() for value in (name, each)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "QUERN_REFERENCES": str(tmp_path / "references")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    checks = json.loads((tmp_path / "out" / "segmentation-3.0" / "w1" / "checks.json").read_text())
    [note] = [check["note"] for check in checks if check["name"] == "parity.argmax"]
    assert re.search(r"; parts from single precision at \w+ `\S+`, by [\d.e-]+ of its magnitude$", note), note
    verdicts = {each["variant"]: each["verdict"] for each in json.loads(done.stdout)["variants"]}
    assert verdicts == {"segmentation-3.0/fp16": "pass", "segmentation-3.0/w1": "fail", "segmentation-3.0/w8": "pass"}
