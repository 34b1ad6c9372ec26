"""Contracts, on artifacts that keep them and on ones that break them in each way that fails an app."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.types import QuernError, Subject
from tests.fixtures import FIXTURES, needs_fixtures
from tests.verify.programs import interface, written
from verify.commands.line import main
from verify.contract import measure
from verify.contracts.findings import Finding, findings
from verify.contracts.sizes import axis_text, bounds
from verify.contracts.terms import artifact_name, contracts, expanded, read_contract, terms_for

SEGMENTATION = ({"audio": "fp32 1 1 160000"}, {"segments": "fp32 1 589 7"})
BATCH = ({"audio": "fp32 1..32 1 160000"}, {"log_probs": "fp32 1..32 589 7"})
EMBEDDING = ({"waveform": "fp32 3 160000", "mask": "fp32 3 589"}, {"embedding": "fp32 3 256"})
PLDA = ({"embeddings": "fp32 1..32 256"}, {"rho": "fp32 1..32 128"})
SPEAKERKIT = ({"embeddings": "fp32 5 256"}, {"plda_embeddings": "fp16 5 128"})
OFFLINE = ({"mel": "fp32 1 128 3072", "mel_length": "int32 1"}, {"speaker_preds": "fp32 1 384 4"})


def sortformer(frames: int = 242, fifo: int = 40, center: int = 14) -> tuple[dict[str, str], dict[str, str]]:
    """Return the interface of the streaming network; frames = 188 + fifo + center in a sound one."""
    inputs = {
        "chunk": f"fp32 1 {8 * center} 128",
        "chunk_lengths": "int32 1",
        "spkcache": "fp32 1 188 512",
        "spkcache_lengths": "int32 1",
        "fifo": f"fp32 1 {fifo} 512",
        "fifo_lengths": "int32 1",
    }
    outputs = {
        "speaker_preds": f"fp32 1 {frames} 4",
        "chunk_pre_encoder_embs_out": f"fp32 1 {center} 512",
        "chunk_pre_encoder_lengths_out": "int32 1",
    }
    return inputs, outputs


STRINGS = {
    "chunk_len": "6",
    "chunk_left_context": "1",
    "chunk_right_context": "7",
    "fifo_len": "40",
    "spkcache_len": "188",
    "spkcache_update_period": "31",
    "subsampling_factor": "8",
    "frame_duration": "0.08",
    "mel_feature_frames": "112",
}


def held(spec: Any, folder: Path, name: str) -> list[Finding]:
    """Return the findings of a model, written and compiled; package and bundle must be found alike."""
    package, bundle = written(spec, folder, name)
    (terms,) = terms_for(name, contracts())
    of_package, of_bundle = (findings(path, terms, None) for path in (package, bundle))
    assert [(f.kind, f.sentence) for f in of_package] == [(f.kind, f.sentence) for f in of_bundle]
    return of_bundle


@pytest.mark.parametrize(
    ("name", "ports", "metadata"),
    [
        ("pyannote_segmentation", SEGMENTATION, {}),
        ("Segmentation", BATCH, {}),
        ("wespeaker_v2", EMBEDDING, {}),
        ("PldaRho", PLDA, {}),
        ("FBank", ({"audio": "fp32 1 1 160000"}, {"fbank_features": "fp32 1 1 80 998"}), {}),
        (
            "Embedding",
            ({"fbank_features": "fp32 1 1 80 998", "weights": "fp32 1 589"}, {"embedding": "fp32 1 256"}),
            {},
        ),
        ("Sortformer_v2.1", sortformer(), STRINGS),
        ("SortformerOffline_v2.1", OFFLINE, {}),
        ("PldaProjector", SPEAKERKIT, {}),
    ],
)
def test_a_model_as_required_has_no_findings(tmp_path: Path, name: str, ports: Any, metadata: dict) -> None:
    """Every contract can be kept."""
    assert held(interface(*ports, metadata), tmp_path, name) == []


def test_a_wrong_name_is_found(tmp_path: Path) -> None:
    """The app looks outputs up by name."""
    (found,) = held(interface(SEGMENTATION[0], {"segment": "fp32 1 589 7"}), tmp_path, "pyannote_segmentation")
    assert found.kind == "name"
    assert found.where == "model.mil, coremldata.bin, metadata.json"
    assert found.sentence == "output: expected `segments`, found `segment`; is `segment` meant to be it?"


def test_a_name_that_the_app_takes_as_well_is_none(tmp_path: Path) -> None:
    """Where an app accepts two names, either will do."""
    assert held(interface(BATCH[0], {"segments": "fp32 1..32 589 7"}), tmp_path, "Segmentation") == []


def test_a_half_precision_output_is_found(tmp_path: Path) -> None:
    """Its rows are padded, and the app reads one block of float32."""
    (found,) = held(interface(SEGMENTATION[0], {"segments": "fp16 1 589 7"}), tmp_path, "pyannote_segmentation")
    assert found.kind == "dtype"
    assert found.sentence.startswith("output `segments`: expected float32, found float16; it is read as one block")


@pytest.mark.parametrize("key", list(STRINGS))
def test_a_missing_metadata_string_is_found(tmp_path: Path, key: str) -> None:
    """Each of them, and it is named."""
    strings = {name: text for name, text in STRINGS.items() if name != key}
    found = held(interface(*sortformer(), strings), tmp_path, "Sortformer_v2")
    assert [f.kind for f in found] == ["metadata"]
    assert f"`{key}`" in found[0].sentence


def test_a_wrong_shape_is_found(tmp_path: Path) -> None:
    """A window of five seconds where the app passes ten."""
    ports = {"audio": "fp32 1 1 80000"}, {"segments": "fp32 1 293 7"}
    found = held(interface(*ports), tmp_path, "pyannote_segmentation")
    assert [f.kind for f in found] == ["shape", "shape"]
    assert found[0].sentence == "input `audio`: expected [1, 1, 160000], found [1, 1, 80000]"


def test_a_fixed_batch_is_found_where_any_is_passed(tmp_path: Path) -> None:
    """The app passes 1 to 32 windows at a time."""
    ports = {"audio": "fp32 4 1 160000"}, {"log_probs": "fp32 4 589 7"}
    found = held(interface(*ports), tmp_path, "Segmentation")
    assert [f.kind for f in found] == ["flexible", "flexible"]
    assert found[0].sentence == "input `audio`: expected [1..32, 1, 160000], found [4, 1, 160000]"


def test_a_narrower_range_is_found(tmp_path: Path) -> None:
    """A batch of 32 is refused by a model that takes 16."""
    found = held(interface({"audio": "fp32 1..16 1 160000"}, BATCH[1]), tmp_path, "Segmentation")
    assert [f.kind for f in found] == ["flexible"]


def test_a_range_where_the_app_passes_one_shape_is_none(tmp_path: Path) -> None:
    """What takes more than is passed takes what is passed."""
    ports = BATCH[0], {"segments": "fp32 1..32 589 7"}
    assert held(interface(*ports), tmp_path, "pyannote_segmentation") == []


def test_enumerated_shapes_are_found_where_a_range_is_required(tmp_path: Path) -> None:
    """A list of all 32 is not a range; only the package can have one, for its compiled form is not known."""
    spec = interface(*BATCH)
    array = spec.description.input[0].type.multiArrayType
    array.ClearField("shapeRange")
    for batch in range(1, 33):
        array.enumeratedShapes.shapes.add(shape=[batch, 1, 160000])
    package = tmp_path / "Segmentation.mlpackage"
    from mil.package import write_package

    write_package(spec, {}, package)
    found = findings(package, terms_for("Segmentation", contracts())[0], None)
    assert [f.kind for f in found] == ["flexible"]
    assert "found a list of 32 shapes" in found[0].sentence


def test_an_extra_required_input_is_found(tmp_path: Path) -> None:
    """The app does not pass it, so every prediction would fail; an optional one is no trouble."""
    spec = interface(SEGMENTATION[0] | {"scale": "fp32 1"}, SEGMENTATION[1])
    found = held(spec, tmp_path, "pyannote_segmentation")
    assert [f.kind for f in found] == ["name"]
    assert "requires `scale`" in found[0].sentence
    spec.description.input[1].type.isOptional = True
    assert held(spec, tmp_path / "optional", "pyannote_segmentation") == []


def test_an_alias_is_found(tmp_path: Path) -> None:
    """A tensor that is both input and output crashes the app when it loads the model."""
    spec = interface(*sortformer(), STRINGS)
    spec.mlProgram.functions["main"].block_specializations["CoreML7"].outputs.append("fifo")
    package, _ = written(spec, tmp_path, "Sortformer_v2")
    found = findings(package, terms_for("Sortformer_v2", contracts())[0], None)
    assert "main: `fifo` is both an input and an output" in [f.sentence for f in found if f.kind == "alias"]


def test_metadata_that_is_not_the_geometry_is_found(tmp_path: Path) -> None:
    """Shapes of one latency with the strings of another: the app would be slow and wrong."""
    found = held(interface(*sortformer(), STRINGS | {"fifo_len": "188"}), tmp_path, "Sortformer_v2")
    assert [f.kind for f in found] == ["metadata"]
    assert found[0].sentence == "metadata: expected `fifo_len` of 40, found '188'"


def test_frames_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    """T = 188 + fifo + C."""
    (found,) = held(interface(*sortformer(frames=240), STRINGS), tmp_path, "Sortformer_v2")
    assert (found.kind, "expected [1, 242 (spkcache + fifo + left + chunk + right), 4]" in found.sentence) == (
        "shape",
        True,
    )


def test_another_latency_is_held_against_its_own_metadata(tmp_path: Path) -> None:
    """Of a file that the contract does not list, shapes must be what its strings say."""
    strings = STRINGS | {"chunk_len": "12", "fifo_len": "60"}
    ports = sortformer(frames=188 + 60 + 20, fifo=60, center=20)
    assert held(interface(*ports, strings), tmp_path / "sound", "SortformerBrisk_v2") == []
    found = held(interface(*sortformer(), strings), tmp_path / "other", "SortformerBrisk_v2")
    assert {f.kind for f in found} == {"shape"}
    assert "`fifo`: expected [1, 60 (fifo), 512], found [1, 40, 512]" in " ".join(f.sentence for f in found)


def test_a_metadata_file_that_says_otherwise_is_found(tmp_path: Path) -> None:
    """Each file of a bundle is held against the contract, and the finding names the one that is wrong."""
    _, bundle = written(interface(*SEGMENTATION), tmp_path, "pyannote_segmentation")
    text = (bundle / "metadata.json").read_text()
    (bundle / "metadata.json").write_text(text.replace('"segments"', '"output"'))
    (found,) = findings(bundle, terms_for("pyannote_segmentation", contracts())[0], None)
    assert (found.kind, found.where) == ("name", "metadata.json")


def test_a_bundle_without_its_root_file_is_found(tmp_path: Path) -> None:
    """Core ML loads nothing without coremldata.bin."""
    _, bundle = written(interface(*SEGMENTATION), tmp_path, "pyannote_segmentation")
    (bundle / "coremldata.bin").unlink()
    (found,) = findings(bundle, terms_for("pyannote_segmentation", contracts())[0], None)
    assert (found.kind, "coremldata.bin" in found.sentence) == ("layout", True)


def test_a_leftover_of_a_download_is_found(tmp_path: Path) -> None:
    """A file that was not fetched whole."""
    _, bundle = written(interface(*SEGMENTATION), tmp_path, "pyannote_segmentation")
    (bundle / "weights").mkdir()
    (bundle / "weights" / "weight.bin.partial").touch()
    (found,) = findings(bundle, terms_for("pyannote_segmentation", contracts())[0], None)
    assert (found.kind, found.where) == ("layout", "weights/weight.bin.partial")


def test_a_damaged_bundle_is_found(tmp_path: Path) -> None:
    """What cannot be read is not what an app requires."""
    _, bundle = written(interface(*SEGMENTATION), tmp_path, "pyannote_segmentation")
    (bundle / "model.mil").write_text("program(1.0)")
    (found,) = findings(bundle, terms_for("pyannote_segmentation", contracts())[0], None)
    assert (found.kind, "cannot be read" in found.sentence) == ("layout", True)


def parameters(folder: Path, psi: np.ndarray | str) -> Path:
    path = folder / "plda-parameters.json"
    data = psi if isinstance(psi, str) else base64.b64encode(psi.tobytes()).decode()
    path.write_text(json.dumps({"tensors": {"psi": {"data_base64": data}}}))
    return path


def test_a_missing_companion_is_found(tmp_path: Path) -> None:
    """The scoring model is of no use without its parameters."""
    _, bundle = written(interface(*PLDA), tmp_path, "PldaRho")
    (terms,) = terms_for("PldaRho", contracts())
    assert [f.kind for f in findings(bundle, terms, tmp_path)] == ["companion"]
    parameters(tmp_path, np.ones(128, np.float32))
    assert findings(bundle, terms, tmp_path) == []


@pytest.mark.parametrize(
    ("psi", "words"),
    [
        (np.ones(128), "as many as of float64"),
        (np.ones(127, np.float32), "found 508 bytes"),
        (np.full(128, np.nan, np.float32), "found infinities or NaN"),
        ("not base64!", "not base64"),
    ],
)
def test_parameters_that_decode_to_garbage_are_found(tmp_path: Path, psi: Any, words: str) -> None:
    """The app decodes 128 numbers of float32, whatever is there."""
    (terms,) = terms_for("plda-parameters.json", contracts())
    assert findings(parameters(tmp_path, np.ones(128, np.float32)), terms, None) == []
    (found,) = findings(parameters(tmp_path, psi), terms, None)
    assert (found.kind, words in found.sentence) == ("parameters", True)


def test_the_check_measures_package_and_bundle(tmp_path: Path) -> None:
    """What is wrong with both is one finding, with its places; the bundle's name decides the contract."""
    package, bundle = written(interface(SEGMENTATION[0], {"out": "fp32 1 589 7"}), tmp_path, "pyannote_segmentation")
    (found,) = measure(Subject((), (), package, bundle))
    assert found.value == 1
    assert found.note.startswith("FluidAudio: name: output: expected `segments`, found `out`")
    assert [place.split(":")[0] for place in found.detail["findings"][found.note]] == ["mlpackage", "mlmodelc"]
    (bundle / "stray.partial").touch()
    assert measure(Subject((), (), package, bundle))[0].value == 2
    assert found.detail["contracts"] == ["FluidAudio: pyannote_segmentation"]


def test_the_check_looks_beside_the_artifact(tmp_path: Path) -> None:
    """A file that the app needs is missing, is sound, and decodes to garbage."""
    package, bundle = written(interface(*PLDA), tmp_path, "PldaRho")
    beside = tmp_path / "beside"
    beside.mkdir()

    def notes(folder: Path | None) -> str:
        (found,) = measure(Subject((), (), package, bundle, sidecars=folder))
        assert found.value == len(found.detail["findings"])
        return found.note

    missing = "FluidAudio: companion: plda-parameters.json: expected beside the model, found none; the app needs both"
    assert (notes(None), notes(beside)) == (missing, missing)
    parameters(beside, np.ones(128, np.float32))
    assert notes(beside) == ""
    parameters(beside, np.ones(128))
    assert notes(beside).startswith(
        "FluidAudio: parameters: `tensors.psi.data_base64`: expected 128 numbers of float32"
    )
    assert "as many as of float64" in notes(beside)


def test_a_name_of_no_contract_is_not_run(tmp_path: Path) -> None:
    """No value and the reason: never a pass."""
    package, bundle = written(interface(*SEGMENTATION), tmp_path, "something_else")
    (found,) = measure(Subject((), (), package, bundle))
    assert (found.value, found.note) == (None, "no contract names something_else")
    assert measure(Subject((), (), tmp_path / "model.onnx", None))[0].value is None


def test_the_most_particular_pattern_applies() -> None:
    """Listed latencies have their own numbers, others the general form; both checkpoints have the same."""
    assert [terms.sizes.get("fifo") for terms in terms_for("SortformerNvidiaLow_v2.1", contracts())] == [188]
    assert [dict(terms.sizes) for terms in terms_for("SortformerBrisk_v2", contracts())] == [{}]
    assert terms_for("SortformerOffline_v2.1", contracts())[0].interface.outputs["speaker_preds"].axes == (
        "1",
        "384",
        "4",
    )
    assert list(expanded("a{1,2}/b{x,y}")) == ["a1/bx", "a1/by", "a2/bx", "a2/by"]
    assert artifact_name(Path("v3/Sortformer_v2.1.mlmodelc")) == "Sortformer_v2.1"


def test_sizes_are_sums_of_products() -> None:
    """The little language of shapes."""
    assert bounds("8*left + 8*chunk", {"left": 1, "chunk": 6}) == (56, 56)
    assert (bounds("1..32", {}), bounds("?", {}), bounds("fifo", {})) == ((1, 32), None, None)
    with pytest.raises(ValueError, match="expected a size"):
        axis_text("1 - 2")


CONTRACT = """
consumer: App
source: its code
interfaces:
  one: {inputs: {x: {dtype: float32, shape: [1, n]}}, metadata: {length: n}}
models:
  Name: {interface: one}
"""


@pytest.mark.parametrize(
    ("wrong", "right", "complaint"),
    [
        ("shpe", "shape", "interfaces.one.inputs.x.shpe: unknown option; did you mean 'shape'?"),
        ("float8", "float32", "interfaces.one.inputs.x.dtype: expected float32 or float16 or int32"),
        ("interface: onee", "interface: one", "models.Name.interface.onee: unknown interface; did you mean 'one'?"),
        ("[1, m]", "[1, n]", "x.shape.m: unknown size"),
        ("consumr", "consumer", "contract.consumr: unknown option; did you mean 'consumer'?"),
        ("[1, 2..]", "[1, n]", "expected a size such as 160000"),
    ],
)
def test_a_contract_that_is_not_well_formed_is_refused(tmp_path: Path, wrong: str, right: str, complaint: str) -> None:
    """A misspelt key would be a requirement that nothing is held against."""
    path = tmp_path / "app.yaml"
    path.write_text(CONTRACT)
    assert [terms.pattern for terms in read_contract(path)] == ["Name"]
    path.write_text(CONTRACT.replace(right, wrong))
    with pytest.raises(QuernError) as error:
        read_contract(path)
    assert complaint in str(error.value)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `python -m verify contract` and gives its status and what it printed."""

    def ran(*arguments: str | Path) -> tuple[int, str, str]:
        status = main(["contract", *map(str, arguments)])
        return status, *capsys.readouterr()

    return ran


def test_by_hand_the_exit_status_tells(tmp_path: Path, run: Run) -> None:
    """0 as required, 1 with findings, 2 for what cannot be held against anything."""
    package, bundle = written(interface(*SEGMENTATION), tmp_path, "pyannote_segmentation")
    assert run(package, bundle)[:2] == (
        0,
        f"{package}: FluidAudio, pyannote_segmentation: as required\n"
        f"{bundle}: FluidAudio, pyannote_segmentation: as required\n",
    )
    status, out, _ = run(bundle, "--as", "Segmentation")
    assert (status, "flexible: model.mil" in out) == (1, True)
    status, _, complaint = run(bundle, "--as", "Segmentatio")
    assert (status, "no contract names 'Segmentatio'" in complaint) == (2, True)
    assert run(tmp_path / "absent.mlmodelc")[0] == 2


def test_a_release_is_held_against_the_published_paths(tmp_path: Path, run: Run) -> None:
    """Every artifact in a folder, its place included, as JSON."""
    for folder in ("v3/fp16", "v2", ".cache"):
        (tmp_path / folder).mkdir(parents=True)
        written(interface(*sortformer(), STRINGS), tmp_path / folder, "Sortformer_v2")
    status, out, _ = run(tmp_path, "--json")
    found = {Path(one["path"]).relative_to(tmp_path).as_posix(): one["findings"] for one in json.loads(out)}
    assert status == 1
    assert found["v3/fp16/Sortformer_v2.mlmodelc"] == []
    assert [f["kind"] for f in found["v2/Sortformer_v2.mlmodelc"]] == ["layout"]
    assert len(found) == 4
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty")[0] == 2


@needs_fixtures
def test_the_published_embedding_is_as_the_app_requires() -> None:
    """All but the file that this copy lacks; a second output is none of the app's business."""
    bundle = FIXTURES / "published" / "wespeaker_v2.mlmodelc"
    found = findings(bundle, terms_for("wespeaker_v2", contracts())[0], None)
    assert [f.kind for f in found] == ["layout"]
