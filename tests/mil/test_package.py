"""Packages: read as they are found, written whole and reproducibly, refused in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mil.errors import MilError
from mil.package import read_package, without_build_traces, write_package
from mil.schema import Model_pb2
from tests.fixtures import FIXTURES, needs_fixtures

SILERO = sorted((FIXTURES / "apple_pairs").glob("silero_*/*.mlpackage"))
WEIGHTS = "weights/weight.bin"


def small_model() -> Model_pb2.Model:
    """A model with what coremltools leaves in one: a date and a local version tag."""
    spec = Model_pb2.Model(specificationVersion=7)
    user_defined = spec.description.metadata.userDefined
    user_defined["com.github.apple.coremltools.conversion_date"] = "2026-01-01"
    user_defined["com.github.apple.coremltools.source"] = "torch==2.13.0+cpu"
    for index in range(20):
        user_defined[f"key{index}"] = "value"
    info = spec.mlProgram.attributes["buildInfo"].immediateValue.dictionary.values.add()
    info.value.immediateValue.tensor.strings.values.append("2.13.0+cpu")
    return spec


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "somewhere.bin"
    path.write_bytes(b"\1\0\0\0\2\0\0\0" + b"\0" * 56)
    return path


@needs_fixtures
@pytest.mark.parametrize("path", SILERO, ids=lambda path: path.stem)
def test_a_real_package_is_read_and_written_again(ct: Any, path: Path, tmp_path: Path) -> None:
    """The copy holds the same model and weights, and coremltools' own package reader accepts it."""
    package = read_package(path)
    copy = tmp_path / "copy.mlpackage"
    write_package(package.spec, {WEIGHTS: package.blob_path(f"@model_path/{WEIGHTS}")}, copy)
    assert ct.libmodelpackage.ModelPackage.isValid(str(copy))
    again = read_package(copy)
    assert again.spec == package.spec
    assert (again.root / WEIGHTS).read_bytes() == (package.root / WEIGHTS).read_bytes()


def test_equal_models_are_equal_bytes(tmp_path: Path, weights: Path) -> None:
    """Map order, identifiers and the place of writing leave no trace."""
    first, second = small_model(), Model_pb2.Model()
    second.ParseFromString(first.SerializeToString())
    for folder, spec in (("a", first), ("b", second)):
        write_package(spec, {WEIGHTS: weights}, tmp_path / folder / "m.mlpackage")
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_other_weights_are_another_identifier(tmp_path: Path, weights: Path) -> None:
    """The manifest's identifiers follow the content of the items."""
    write_package(small_model(), {WEIGHTS: weights}, tmp_path / "a.mlpackage")
    other = tmp_path / "other.bin"
    other.write_bytes(weights.read_bytes() + b"\0")
    write_package(small_model(), {WEIGHTS: other}, tmp_path / "b.mlpackage")
    a, b = (json.loads((tmp_path / f"{name}.mlpackage/Manifest.json").read_text()) for name in "ab")
    assert a["rootModelIdentifier"] == b["rootModelIdentifier"]
    assert a["itemInfoEntries"].keys() != b["itemInfoEntries"].keys()


def test_weights_are_linked_not_copied(tmp_path: Path, weights: Path) -> None:
    """A package beside its source takes no more disk."""
    write_package(small_model(), {WEIGHTS: weights}, tmp_path / "m.mlpackage")
    assert os.path.samefile(read_package(tmp_path / "m.mlpackage").blob_path(f"@model_path/{WEIGHTS}"), weights)


def test_build_traces_are_removed_from_a_copy() -> None:
    """Date and local version tags go, everything else and the argument itself stay."""
    spec = small_model()
    clean = without_build_traces(spec)
    user_defined = clean.description.metadata.userDefined
    assert "com.github.apple.coremltools.conversion_date" not in user_defined
    assert user_defined["com.github.apple.coremltools.source"] == "torch==2.13.0"
    assert user_defined["key0"] == "value"
    assert "2.13.0+cpu" not in str(clean)
    assert spec == small_model()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """A weight file that is not there: an error, and no package and no remains."""
    with pytest.raises(MilError, match="not there"):
        write_package(small_model(), {WEIGHTS: tmp_path / "absent.bin"}, tmp_path / "out" / "m.mlpackage")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """An existing destination is refused, and a name that is no package."""
    (tmp_path / "m.mlpackage").mkdir()
    with pytest.raises(MilError, match="exists already"):
        write_package(small_model(), {}, tmp_path / "m.mlpackage")
    with pytest.raises(MilError, match=r"ends in \.mlpackage"):
        write_package(small_model(), {}, tmp_path / "m.zip")


@pytest.mark.parametrize("name", ["../w.bin", "/etc/w.bin", "a/../../w.bin", "weight.bin", ""])
def test_weight_names_outside_the_package_are_refused(tmp_path: Path, weights: Path, name: str) -> None:
    """Neither written to …"""
    with pytest.raises(MilError, match="weight file"):
        write_package(small_model(), {name: weights}, tmp_path / "m.mlpackage")


@pytest.mark.parametrize(
    "name", ["@model_path/../w.bin", "/etc/passwd", "weights/weight.bin", "@model_path//etc/passwd", "@model_path", ""]
)
def test_programs_cannot_read_outside_their_package(tmp_path: Path, weights: Path, name: str) -> None:
    """… nor read from."""
    write_package(small_model(), {WEIGHTS: weights}, tmp_path / "m.mlpackage")
    with pytest.raises(MilError, match="expected a path below @model_path/"):
        read_package(tmp_path / "m.mlpackage").blob(name)


def test_absent_weights_are_one_sentence(tmp_path: Path) -> None:
    """Weights are looked for when they are asked for."""
    write_package(small_model(), {}, tmp_path / "m.mlpackage")
    with pytest.raises(MilError, match="the program needs it and it is not there"):
        read_package(tmp_path / "m.mlpackage").blob(f"@model_path/{WEIGHTS}")


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "cannot read it"),
        ("", "names no model"),
        ("[]", "names no model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {}}', "names no model"),
        ('{"rootModelIdentifier": [], "itemInfoEntries": {}}', "names no model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../x"}}}', "leaves the package"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}', "leaves the package"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "x"}}}', "cannot read the model"),
        ("[" * 100_000, "names no model"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, manifest: str | None, said: str) -> None:
    """Absent, empty, of another form, pointing outside or nowhere."""
    package = tmp_path / "m.mlpackage"
    package.mkdir()
    if manifest is not None:
        (package / "Manifest.json").write_text(manifest)
    with pytest.raises(MilError, match=said):
        read_package(package)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"not a model"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """Bytes that are no protobuf, and a protobuf without a model in it."""
    (tmp_path / "m.mlmodel").write_bytes(content)
    with pytest.raises(MilError, match=r"m\.mlmodel"):
        read_package(tmp_path / "m.mlmodel")


def test_a_model_that_was_not_fetched_is_refused(tmp_path: Path) -> None:
    """What Git leaves in place of a large file says how to get it."""
    (tmp_path / "m.mlmodel").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(MilError, match="git lfs pull"):
        read_package(tmp_path / "m.mlmodel")


def test_a_bare_model_is_read(tmp_path: Path) -> None:
    """A `.mlmodel` file needs no manifest."""
    (tmp_path / "m.mlmodel").write_bytes(small_model().SerializeToString())
    assert read_package(tmp_path / "m.mlmodel").spec == small_model()


@needs_fixtures
def test_reading_a_package_imports_neither_coremltools_nor_torch() -> None:
    """Only the protobuf modules are loaded: reading stays a matter of a tenth of a second."""
    code = (
        "import sys; from mil.package import read_package; read_package(sys.argv[1]);"
        "print('coremltools' in sys.modules, 'coremltools.models' in sys.modules, 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(SILERO[0])], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == ["False", "False", "False"]
