"""Bundles turned back into packages."""

import contextlib
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from mil.blob import BlobWriter
from mil.bundle import open_bundle, read_bundle
from mil.cli import main
from mil.compile import compile_package
from mil.coremldata import pack, unpack, unpack_analytics, unpack_names
from mil.decompile import decompile_bundle
from mil.description import read_metadata, rebuilt_description
from mil.errors import MilError
from mil.package import read_package
from mil.parse import parse
from mil.types import BY_NAME
from tests.fixtures import needs_fixtures
from tests.mil.test_compile import ALL_PAIRS, WESPEAKER, WHOLE_PAIRS, bundle_of, package_of, stamp_of


@needs_fixtures
@pytest.mark.parametrize("pair", WHOLE_PAIRS, ids=lambda pair: pair.name)
def test_the_package_comes_back(pair: Path, tmp_path: Path) -> None:
    """What Apple compiled decompiles to an equal model, program, description and all, with the same weights."""
    made = decompile_bundle(bundle_of(pair), tmp_path / "back.mlpackage")
    assert made.notes == []
    original, back = read_package(package_of(pair)), read_package(made.path)
    assert back.spec == original.spec
    name = "@model_path/weights/weight.bin"
    assert back.blob_path(name).read_bytes() == original.blob_path(name).read_bytes()


@needs_fixtures
@pytest.mark.parametrize("pair", WHOLE_PAIRS, ids=lambda pair: pair.name)
def test_the_bundle_comes_back(pair: Path, tmp_path: Path) -> None:
    """A bundle decompiled and compiled again with its stamp has the same text, metadata and weights."""
    apple = bundle_of(pair)
    package = decompile_bundle(apple, tmp_path / f"{pair.name}.mlpackage").path
    again = compile_package(package, tmp_path, stamp_of(apple)).path
    for name in ("model.mil", "metadata.json", "weights/weight.bin"):
        assert (again / name).read_bytes() == (apple / name).read_bytes(), name


@needs_fixtures
@pytest.mark.parametrize("pair", ALL_PAIRS, ids=lambda pair: pair.name)
def test_a_lost_description_is_rebuilt(pair: Path) -> None:
    """Function and metadata.json together hold all of the description that these packages had."""
    bundle = bundle_of(pair)
    program, _ = parse((bundle / "model.mil").read_text())
    metadata = read_metadata((bundle / "metadata.json").read_bytes())
    assert rebuilt_description(program, metadata) == read_package(package_of(pair)).spec.description


@needs_fixtures
def test_a_description_can_be_rebuilt_from_the_function_alone(tmp_path: Path) -> None:
    """Without metadata.json too there is a description, and a note says how it came to be."""
    bundle = tmp_path / "b.mlmodelc"
    shutil.copytree(bundle_of(WHOLE_PAIRS[0]), bundle, copy_function=shutil.copyfile)
    for name in ("coremldata.bin", "metadata.json"):
        (bundle / name).unlink()
    opened = open_bundle(bundle)
    assert "function alone" in opened.notes[0]
    original = read_package(package_of(WHOLE_PAIRS[0])).spec
    assert opened.spec.specificationVersion == original.specificationVersion
    by_name = {feature.name: feature.type for feature in original.description.input}
    assert {feature.name: feature.type for feature in opened.spec.description.input} == by_name


@needs_fixtures
def test_the_published_wespeaker_becomes_a_package(tmp_path: Path) -> None:
    """Its scalar constant output survives, and coremltools' reader takes the package. Its weights are stand-ins."""
    bundle = tmp_path / "wespeaker.mlmodelc"
    shutil.copytree(WESPEAKER, bundle, copy_function=shutil.copyfile)
    (bundle / "weights").mkdir()
    with BlobWriter(bundle / "weights" / "weight.bin") as writer:
        writer.append(np.zeros(4, np.float32), BY_NAME["fp32"])
    made = decompile_bundle(bundle, tmp_path / "wespeaker.mlpackage")
    assert "rebuilt" in made.notes[0]
    spec = read_package(made.path).spec
    assert [feature.name for feature in spec.description.output] == ["constant", "embedding"]
    assert list(spec.description.output[0].type.multiArrayType.shape) == []
    block = spec.mlProgram.functions["main"].block_specializations["CoreML6"]
    assert sum(operation.type == "slice_by_index" for operation in block.operations) == 1001


@needs_fixtures
def test_a_bundle_without_weights_is_refused(tmp_path: Path) -> None:
    """Without the weight file no package appears, and the file is named; the program can still be read."""
    with pytest.raises(MilError, match=r"weight\.bin"):
        decompile_bundle(WESPEAKER, tmp_path / "w.mlpackage")
    assert not list(tmp_path.iterdir())
    assert read_bundle(WESPEAKER).spec.specificationVersion == 7


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    """A missing folder, an empty one and a file."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("missing", "empty", "file"):
        with pytest.raises(MilError, match=name):
            open_bundle(tmp_path / name)


@needs_fixtures
def test_the_command_decompiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`decompile` prints where the package is; a bundle that cannot be read is bad input."""
    assert main(["decompile", str(bundle_of(WHOLE_PAIRS[0])), "--out", str(tmp_path / "p.mlpackage")]) == 0
    assert capsys.readouterr().out.strip().endswith("p.mlpackage")
    assert main(["decompile", str(tmp_path), "--out", str(tmp_path / "q.mlpackage")]) == 2


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return content with a few bytes changed, removed or repeated."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 5)):
        start = rng.randrange(max(len(damaged), 1))
        match rng.randrange(4):
            case 0:
                damaged[start : start + 1] = bytes([rng.randrange(256)])
            case 1:
                del damaged[start : start + rng.randint(1, 40)]
            case 2:
                damaged[start:start] = damaged[start : start + rng.randint(1, 40)]
            case 3:
                damaged[start : start + 8] = rng.randbytes(8)
    return bytes(damaged)


@needs_fixtures
@pytest.mark.parametrize("name", ["model.mil", "coremldata.bin", "metadata.json"])
def test_damaged_bundles_give_clear_errors_only(name: str, tmp_path: Path) -> None:
    """A bundle with a file damaged anywhere is read, or refused with a MilError: nothing else."""
    rng = random.Random(5)
    bundle = tmp_path / "b.mlmodelc"
    shutil.copytree(bundle_of(WHOLE_PAIRS[0]), bundle, copy_function=shutil.copyfile)
    if name == "metadata.json":
        (bundle / "coremldata.bin").unlink()
    content = (bundle / name).read_bytes()
    refused = 0
    for _ in range(120):
        (bundle / name).write_bytes(mutated(content, rng))
        try:
            read_bundle(bundle)
        except MilError:
            refused += 1
    assert refused


@needs_fixtures
def test_damaged_binary_files_give_clear_errors_only() -> None:
    """The readers of the binary files take any bytes."""
    rng = random.Random(6)
    bundle = bundle_of(WHOLE_PAIRS[0])
    for reader, content in (
        (unpack, (bundle / "coremldata.bin").read_bytes()),
        (unpack_analytics, (bundle / "analytics" / "coremldata.bin").read_bytes()),
        (unpack_names, b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"ab"),
    ):
        for _ in range(500):
            with contextlib.suppress(MilError):
                reader(mutated(content, rng))


@pytest.mark.parametrize(
    "metadata",
    [
        b'[{"inputSchema": [{"name": ["x"], "dataType": {}}], "specificationVersion": 1e99}]',
        b'[{"inputSchema": [{"name": "audio_input", "type": "Image"}]}]',
        b'[{"author": "\\ud800"}]',
        b"[1]",
        b"[]",
        b"[" * 100000,
        b'[{"userDefinedMetadata": 3, "specificationVersion": 123456789012345678901234567890}]',
    ],
)
@needs_fixtures
def test_strange_metadata_gives_clear_errors_only(metadata: bytes, tmp_path: Path) -> None:
    """JSON of other shapes than Apple's is passed over, or refused with a MilError."""
    (tmp_path / "model.mil").write_bytes((bundle_of(WHOLE_PAIRS[0]) / "model.mil").read_bytes())
    (tmp_path / "metadata.json").write_bytes(metadata)
    with contextlib.suppress(MilError):
        assert open_bundle(tmp_path).spec.specificationVersion == 6


@needs_fixtures
def test_coremldata_survives() -> None:
    """What is read of `coremldata.bin` is written as it was, up to the order of map entries."""
    content = (bundle_of(WHOLE_PAIRS[0]) / "coremldata.bin").read_bytes()
    assert unpack(pack(unpack(content))) == unpack(content)
    assert len(pack(unpack(content))) == len(content)
