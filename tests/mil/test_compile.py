"""Packages compiled as Apple's compiler compiles them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mil import coremldata
from mil.bundle import open_bundle
from mil.cli import main
from mil.compile import apple_stamp, build_info, compile_package, model_text
from mil.errors import MilError
from mil.metadata import metadata_json
from mil.package import read_package, write_package
from mil.parse import parse
from mil.schema import Model_pb2
from tests.fixtures import FIXTURES, needs_fixtures

WHOLE_PAIRS = sorted(path.parent.with_suffix("") for path in FIXTURES.glob("apple_pairs/*/*.mlmodelc/coremldata.bin"))
ALL_PAIRS = sorted(path.with_suffix("") for path in FIXTURES.glob("apple_pairs/*/*.mlmodelc"))
WESPEAKER = FIXTURES / "published" / "wespeaker_v2.mlmodelc"
COMPONENT, COMPILER = "coremlc-component-MIL", "coremlc-version"


def stamp_of(bundle: Path) -> dict[str, str]:
    held = build_info(parse((bundle / "model.mil").read_text())[0])
    return apple_stamp(f"{held[COMPONENT]},{held[COMPILER]}")


def package_of(pair: Path) -> Path:
    return pair.parent / f"{pair.name}.mlpackage"


def bundle_of(pair: Path) -> Path:
    return pair.parent / f"{pair.name}.mlmodelc"


@needs_fixtures
@pytest.mark.parametrize("pair", WHOLE_PAIRS, ids=lambda pair: pair.name)
def test_bundles_are_those_of_apple(pair: Path, tmp_path: Path) -> None:
    """Given the stamp, text, weights, analytics and metadata are Apple's, byte for byte.

    Of coremldata.bin, everything but the order of the entries of protobuf maps is: the header, the trailer, the
    description as a message, and the length of the whole.
    """
    apple = bundle_of(pair)
    made = compile_package(package_of(pair), tmp_path, stamp_of(apple)).path
    files = sorted(path.relative_to(apple) for path in apple.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    for name in files:
        if name != Path("coremldata.bin"):
            assert (made / name).read_bytes() == (apple / name).read_bytes(), name
    ours, theirs = ((folder / "coremldata.bin").read_bytes() for folder in (made, apple))
    assert len(ours) == len(theirs)
    assert coremldata.unpack(ours) == coremldata.unpack(theirs)


@needs_fixtures
@pytest.mark.parametrize("pair", ALL_PAIRS, ids=lambda pair: pair.name)
def test_text_and_metadata_are_those_of_apple(pair: Path) -> None:
    """The pairs without weights too: text and metadata need none."""
    spec, apple = read_package(package_of(pair)).spec, bundle_of(pair)
    assert model_text(spec, stamp_of(apple)) == (apple / "model.mil").read_text()
    assert metadata_json(spec, pair.name) == (apple / "metadata.json").read_text()


@needs_fixtures
def test_the_metadata_of_the_published_wespeaker_follows_from_its_program() -> None:
    """Histogram, precisions and schema of a bundle that was renamed after it was compiled."""
    spec = open_bundle(WESPEAKER).spec
    assert metadata_json(spec, "wespeaker_int8") == (WESPEAKER / "metadata.json").read_text()


@needs_fixtures
def test_weights_are_linked(tmp_path: Path) -> None:
    """The weight file of a bundle is another name of the package's, where the file system has such names."""
    package = tmp_path / "p.mlpackage"
    source = read_package(package_of(WHOLE_PAIRS[0]))
    write_package(source.spec, {"weights/weight.bin": source.blob_path("@model_path/weights/weight.bin")}, package)
    made = compile_package(package, tmp_path).path
    weights = read_package(package).blob_path("@model_path/weights/weight.bin")
    assert weights.samefile(made / "weights" / "weight.bin")


@needs_fixtures
def test_our_own_name_is_stamped(tmp_path: Path) -> None:
    """Unless asked, a bundle does not claim to be Apple's."""
    made = compile_package(package_of(WHOLE_PAIRS[0]), tmp_path).path
    held = build_info(parse((made / "model.mil").read_text())[0])
    assert "quern-mil-compiler" in held
    assert not {COMPONENT, COMPILER} & held.keys()


@needs_fixtures
def test_a_bundle_that_exists_is_kept(tmp_path: Path) -> None:
    """A second compilation to the same place is refused, and nothing half-made is left behind."""
    compile_package(package_of(WHOLE_PAIRS[0]), tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(MilError, match="exists already"):
        compile_package(package_of(WHOLE_PAIRS[0]), tmp_path)
    assert sorted(os.listdir(tmp_path)) == before


@needs_fixtures
def test_a_failed_compilation_leaves_nothing(tmp_path: Path) -> None:
    """Where the weights are missing, no bundle appears."""
    with pytest.raises(MilError, match="not there"):
        compile_package(package_of(FIXTURES / "apple_pairs" / "parakeet160_spec8" / "streaming_encoder"), tmp_path)
    assert os.listdir(tmp_path) == []


def other_models() -> dict[str, Model_pb2.Model]:
    network, updatable, empty = Model_pb2.Model(), Model_pb2.Model(isUpdatable=True), Model_pb2.Model()
    network.neuralNetwork.SetInParent()
    updatable.mlProgram.version = 1
    empty.pipeline.SetInParent()
    mixed = Model_pb2.Model()
    mixed.pipeline.models.add().neuralNetwork.SetInParent()
    return {"neuralNetwork": network, "updatable": updatable, "without models": empty, "type neural": mixed}


@pytest.mark.parametrize("what", other_models())
def test_other_models_are_refused(what: str, tmp_path: Path) -> None:
    """A model whose compiled form is not known is refused with a sentence that says which it is."""
    package = tmp_path / "m.mlmodel"
    package.write_bytes(other_models()[what].SerializeToString())
    with pytest.raises(MilError, match=what):
        compile_package(package, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def package_with_weights(name: str, content: bytes, folder: Path) -> Path:
    """A package of one constant, in a weight file of that name and content."""
    text = (
        "program(1.0)\n{ func main<ios15>() { tensor<fp16, [64]> w = const()[val = tensor<fp16, [64]>(BLOBFILE("
        f'path = tensor<string, []>("@model_path/{name}"), offset = tensor<uint64, []>(64)))]; }} -> (w); }}'
    )
    spec = Model_pb2.Model(specificationVersion=6)
    spec.mlProgram.CopyFrom(parse(text)[0])
    weights = folder / "content"
    weights.write_bytes(content)
    write_package(spec, {name: weights}, folder / "p.mlpackage")
    return folder / "p.mlpackage"


def test_a_weight_file_that_was_not_fetched_is_refused(tmp_path: Path) -> None:
    """A Git LFS pointer in place of the weights does not become part of a bundle."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    with pytest.raises(MilError, match="Git LFS pointer"):
        compile_package(package_with_weights("weights/weight.bin", pointer, tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["analytics/coremldata.bin", "model0/weight.bin", "modelNames/coremldata.bin"])
def test_weights_never_lie_where_a_bundle_has_its_own_files(name: str, tmp_path: Path) -> None:
    """Such a name is refused, and the package's file, which the bundle would share, stays as it is."""
    package = package_with_weights(name, b"weights", tmp_path)
    with pytest.raises(MilError, match="files of its own"):
        compile_package(package, tmp_path)
    assert (package / "Data" / "com.apple.CoreML" / name).read_bytes() == b"weights"


@needs_fixtures
def test_the_command_compiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`compile` prints where the bundle is; a stamp that is none is a usage error."""
    package = str(package_of(WHOLE_PAIRS[0]))
    assert main(["compile", package, "--out", str(tmp_path), "--stamp", "3500.14.1,3500.32.1"]) == 0
    made = Path(capsys.readouterr().out.strip())
    assert json.loads((made / "metadata.json").read_text())[0]["method"] == "predict"
    assert main(["compile", package, "--out", str(tmp_path / "other"), "--stamp", "3500"]) == 2
    assert "two versions" in capsys.readouterr().err


@needs_fixtures
def test_compiling_needs_neither_coremltools_nor_torch(tmp_path: Path) -> None:
    """The libraries that take seconds to import are not imported."""
    program = (
        "import sys; from mil.cli import main; status = main(sys.argv[1:]);"
        "assert not {'torch', 'coremltools'} & sys.modules.keys(), 'imported'; sys.exit(status)"
    )
    arguments = ["compile", str(package_of(WHOLE_PAIRS[0])), "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
