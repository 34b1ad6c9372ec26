"""Every feature of the format, in packages that coremltools builds: compiled, decompiled, loaded and run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mil
from mil.check_bundle import FAIL, NOT_RUN, check_bundle
from mil.compile import compile_package
from mil.coremldata import unpack, unpack_analytics, unpack_names
from mil.decompile import decompile_bundle
from mil.errors import MilError
from mil.info import describe
from mil.package import read_package
from mil.schema import Model_pb2

pytestmark = pytest.mark.slow

NAMES = (
    "linear",
    "ranged_old",
    "ranged_new",
    "several_functions",
    "stateful",
    "pipeline",
    "compressed_old",
    "compressed_new",
    "nested",
    "classifier",
    "control_flow",
    "many_types",
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One package per name, and one with enumerated shapes."""
    import coremltools as ct

    from tests.mil import small_packages

    folder = tmp_path_factory.mktemp("packages")
    old, new = ct.target.iOS16, ct.target.iOS18
    builders: dict[str, Callable[[Path], Path]] = {
        "ranged_old": lambda path: small_packages.ranged(path, old),
        "ranged_new": lambda path: small_packages.ranged(path, new),
        "compressed_old": lambda path: small_packages.compressed(path, old),
        "compressed_new": lambda path: small_packages.compressed(path, new),
    }
    names = (*NAMES, "enumerated")
    return {name: (builders.get(name) or getattr(small_packages, name))(folder / f"{name}.mlpackage") for name in names}


def described_text(bundle: Path) -> str:
    return (bundle / "model.mil").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_package_comes_back(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    """Package to bundle to package gives an equal model; to bundle again gives the same files but for the hash."""
    bundle = compile_package(packages[name], tmp_path).path
    assert [check for check in check_bundle(bundle, packages[name]) if check.outcome == FAIL] == []
    back = decompile_bundle(bundle, tmp_path / f"{name}.mlpackage").path
    assert read_package(back).spec == read_package(packages[name]).spec
    again = compile_package(back, tmp_path / "again").path
    files = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    different = [path for path in files if (bundle / path).read_bytes() != (again / path).read_bytes()]
    assert different in ([], [Path("analytics/coremldata.bin")])


@pytest.mark.parametrize("name", NAMES)
def test_coremltools_loads_what_comes_back(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    """coremltools opens the decompiled package, and its reader of MIL takes the program."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    bundle = compile_package(packages[name], tmp_path).path
    back = decompile_bundle(bundle, tmp_path / f"{name}.mlpackage").path
    model = ct.models.MLModel(str(back), skip_model_load=True)
    spec = model.get_spec()
    programs = list(spec.pipeline.models) if spec.WhichOneof("Type") == "pipeline" else [spec]
    for program in programs:
        assert load(program, program.specificationVersion, model.weights_dir).functions


@pytest.mark.parametrize("name", NAMES)
def test_bundles_run_as_their_packages_do(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    """The interpreter gives the same outputs for a package and for its bundle."""
    package, bundle = mil.load(packages[name]), mil.load(compile_package(packages[name], tmp_path).path)
    for function in package.functions:
        inputs = example_inputs(package, function)
        expected, found = (program.run(inputs, function=function) for program in (package, bundle))
        assert expected.keys() == found.keys()
        for output, value in expected.items():
            np.testing.assert_array_equal(found[output], value)


def example_inputs(program: mil.Program, function: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    found = {}
    for feature in program.inputs(function):
        shape = feature.default or tuple(feature.type.shape or ())
        values = rng.integers(1, 5, shape) if feature.type.element.kind == "int" else rng.standard_normal(shape)
        found[feature.name] = values.astype(feature.type.element.numpy)
    return found


@pytest.mark.parametrize(("name", "string"), [("ranged_old", "tensor<string, []>"), ("ranged_new", "string")])
def test_ranges_are_written_on_the_function(name: str, string: str, packages: dict[str, Path], tmp_path: Path) -> None:
    """The inputs that have a range, and no others, are listed with their default and limits, in either dialect."""
    text = described_text(compile_package(packages[name], tmp_path).path)
    kind = (
        f"tuple<tuple<{string}, dict<{string}, tensor<int32, [?]>>>, "
        f"tuple<{string}, dict<{string}, list<tensor<int32, [2]>, ?>>>>"
    )
    value = '((("DefaultShapes", {{"b", [1, 16]}}), ("RangeDims", {{"b", [[1, 1], [4, 300]]}})))'
    assert f" [FlexibleShapeInformation = {kind}{value}] {{\n" in text


def test_ranges_are_described_in_the_metadata(packages: dict[str, Path], tmp_path: Path) -> None:
    """metadata.json says which input is flexible and how."""
    bundle = compile_package(packages["ranged_old"], tmp_path).path
    entries = {entry["name"]: entry for entry in json.loads((bundle / "metadata.json").read_text())[0]["inputSchema"]}
    assert entries["a"]["hasShapeFlexibility"] == "0"
    assert entries["b"]["hasShapeFlexibility"] == "1"
    assert entries["b"]["shapeFlexibility"] == "1 × 4...300"
    assert entries["b"]["shapeRange"] == "[[1, 1], [4, 300]]"


@pytest.mark.parametrize(
    "name", ["ranged_old", "ranged_new", "several_functions", "stateful", "classifier", "control_flow"]
)
def test_a_lost_description_is_rebuilt(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    """Without coremldata.bin, function and metadata.json give the same description, ranges and states included."""
    bundle = compile_package(packages[name], tmp_path).path
    (bundle / "coremldata.bin").unlink()
    made = decompile_bundle(bundle, tmp_path / f"{name}.mlpackage")
    assert made.notes
    original: Model_pb2.Model = read_package(packages[name]).spec
    rebuilt: Model_pb2.Model = read_package(made.path).spec
    assert rebuilt.description == original.description
    assert rebuilt.mlProgram == original.mlProgram


def test_enumerated_shapes_are_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    """Their keys follow a rule that is not known, so there is no bundle rather than a guess."""
    with pytest.raises(MilError, match="enumerated shapes"):
        compile_package(packages["enumerated"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_specification_9_is_written_in_dialect_1_3(packages: dict[str, Path], tmp_path: Path) -> None:
    """The specification version chooses dialect and compiled version; scalars are bare."""
    bundle = compile_package(packages["stateful"], tmp_path).path
    text = described_text(bundle)
    assert text.startswith("program(1.3)\n[buildInfo = dict<string, string>({{")
    assert "func main<ios18>(state<tensor<fp16, [4]>> total, tensor<fp16, [4]> x) {" in text
    assert "            write_state(data = add_0, input = total)[name = string(" in text
    data = unpack((bundle / "coremldata.bin").read_bytes())
    assert (data.compiled_version, data.specification) == (9, 9)
    (state,) = json.loads((bundle / "metadata.json").read_text())[0]["stateSchema"]
    assert (state["name"], state["formattedType"]) == ("total", "State (Float16 4)")


def test_functions_are_all_written(packages: dict[str, Path], tmp_path: Path) -> None:
    """Text, trailer and metadata have every function; the default is named."""
    bundle = compile_package(packages["several_functions"], tmp_path).path
    text = described_text(bundle)
    assert text.index("func narrow<ios18>(") < text.index("func wide<ios18>(")
    assert len(unpack((bundle / "coremldata.bin").read_bytes()).trailer) == 2 * 16
    metadata = json.loads((bundle / "metadata.json").read_text())[0]
    assert metadata["defaultFunctionName"] == "narrow"
    assert sorted(function["name"] for function in metadata["functions"]) == ["narrow", "wide"]


def test_pipelines_hold_a_bundle_per_model(packages: dict[str, Path], tmp_path: Path) -> None:
    """Each model has its text, description and weights; the names and the number of models are in their files."""
    bundle = compile_package(packages["pipeline"], tmp_path).path
    assert unpack_names((bundle / "modelNames" / "coremldata.bin").read_bytes()) == ["model0", "model1"]
    analytics = unpack_analytics((bundle / "analytics" / "coremldata.bin").read_bytes())
    assert analytics == {"PipelineModelDetails": {"modelDimension": "2"}}
    for position in (0, 1):
        assert (bundle / f"model{position}" / "model.mil").is_file()
        assert (bundle / f"model{position}" / "weights" / f"{position}-weight.bin").is_file()
    unrun = [check.name for check in check_bundle(bundle, packages["pipeline"]) if check.outcome == NOT_RUN]
    assert unrun == ["package hash"]


def test_palettes_are_counted_by_their_entries(packages: dict[str, Path], tmp_path: Path) -> None:
    """metadata.json names the width of a palette, and the types of other weights."""
    old, new = (
        json.loads((compile_package(packages[name], tmp_path).path / "metadata.json").read_text())[0]
        for name in ("compressed_old", "compressed_new")
    )
    assert old["storagePrecision"] == "Mixed (Float16, Palettized (4 bits))"
    assert new["storagePrecision"] == "Mixed (Float16, Int4)"
    assert new["mlProgramOperationTypeHistogram"]["Ios18.constexprBlockwiseShiftScale"] == 2


def test_palettes_of_what_is_decoded_before_are_described(packages: dict[str, Path], tmp_path: Path) -> None:
    """A palette that is itself the result of an operation counts as one that is written in place."""
    (function,) = describe(mil.load(packages["nested"]))
    assert "palette of 4 bits, linear int8" in function.weights
    metadata = json.loads((compile_package(packages["nested"], tmp_path).path / "metadata.json").read_text())[0]
    assert "Palettized (4 bits)" in metadata["storagePrecision"]


def test_weights_of_one_name_get_names_of_their_own(packages: dict[str, Path], tmp_path: Path) -> None:
    """Where two models of a pipeline call different weights the same, the package keeps both, and runs the same."""
    bundle = compile_package(packages["pipeline"], tmp_path).path
    for position in (0, 1):
        member = bundle / f"model{position}"
        (member / "weights" / f"{position}-weight.bin").rename(member / "weights" / "weight.bin")
        text = described_text(member).replace(f"/{position}-weight.bin", "/weight.bin")
        (member / "model.mil").write_text(text)
    back = decompile_bundle(bundle, tmp_path / "back.mlpackage").path
    weights = back / "Data" / "com.apple.CoreML" / "weights"
    assert sorted(path.name for path in weights.iterdir()) == ["1-weight.bin", "weight.bin"]
    original, renamed = mil.load(packages["pipeline"]), mil.load(back)
    inputs = example_inputs(original, "main")
    np.testing.assert_array_equal(renamed.run(inputs)["z"], original.run(inputs)["z"])
