"""Damaged packages: whatever is done to the bytes of a real one, it runs or it is refused with a MilError."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mil
from mil.errors import MilError
from mil.info import describe
from mil.package import read_package
from mil.schema import MIL_pb2, Model_pb2
from mil.values import specialization
from tests.fixtures import FIXTURES, needs_fixtures

NAMES = ("fp", "int8", "palette_6bit", "pruned_int8")
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
ROUNDS = 25


def package(name: str) -> Path:
    (path,) = (FIXTURES / "apple_pairs" / f"silero_{name}").glob("*.mlpackage")
    return path


def refusal(path: Path) -> str | None:
    """What the package is refused with, None where it runs."""
    try:
        program = mil.load(path)
        describe(program)
        program.run({feature.name: np.zeros(feature.default or (1,), np.float32) for feature in program.inputs()})
    except MilError as error:
        return str(error)
    return None


def check(path: Path) -> bool:
    """Whether the package is refused, which takes one sentence."""
    said = refusal(path)
    assert said is None or (said and "\n" not in said)
    return said is not None


def flipped(data: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes replaced."""
    changed = bytearray(data)
    for place in generator.integers(0, len(data), generator.integers(1, 6)):
        changed[place] = generator.integers(0, 256)
    return bytes(changed)


def truncated(data: bytes, generator: np.random.Generator) -> bytes:
    """An end cut off."""
    return data[: generator.integers(0, len(data))]


def spliced(data: bytes, generator: np.random.Generator) -> bytes:
    """A stretch removed, or copied over another place."""
    start, length, target = generator.integers(0, len(data), 3)
    length = int(length) % 64
    stretch = data[start : start + length] if generator.integers(0, 2) else b""
    return data[:target] + stretch + data[target + length :]


@needs_fixtures
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [MODEL, WEIGHTS, "Manifest.json"])
@pytest.mark.parametrize("change", [flipped, truncated, spliced])
def test_damaged_bytes(name: str, place: str, change: Callable[..., bytes], tmp_path: Path) -> None:
    """Model, weights and manifest, with seeds that are always the same."""
    copy = tmp_path / "m.mlpackage"
    shutil.copytree(package(name), copy, copy_function=shutil.copyfile)
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    data = (package(name) / place).read_bytes()
    # Headers are where damage to a weight file can do harm, and they are a small part of it.
    generator = np.random.default_rng(len(data))
    for _ in range(ROUNDS):
        (copy / place).write_bytes(change(data, generator))
        check(copy)


def mutate(program: MIL_pb2.Program, generator: np.random.Generator) -> None:
    """One change of meaning: a type, name, size, operation, binding or constant is another."""
    operations = specialization(program.functions["main"]).operations
    one, other = (operations[int(index)] for index in generator.integers(0, len(operations), 2))
    match generator.integers(0, 9):
        case 0:
            one.type = other.type
        case 1 if one.inputs and other.outputs:
            key = sorted(one.inputs)[0]
            one.inputs[key].arguments[0].name = other.outputs[0].name
        case 2 if one.outputs and one.outputs[0].type.tensorType.dimensions:
            sizes = (0, 1, 7, 1 << 31, 1 << 62)
            one.outputs[0].type.tensorType.dimensions[0].constant.size = int(generator.choice(sizes))
        case 3 if one.outputs:
            one.outputs[0].type.tensorType.dataType = int(generator.integers(0, 60))
        case 4 if one.outputs and other.outputs:
            one.outputs[0].name = other.outputs[0].name
        case 5 if one.inputs:
            del one.inputs[sorted(one.inputs)[-1]]
        case 6 if one.attributes and other.attributes:
            key = sorted(one.attributes)[-1]
            one.attributes[key].CopyFrom(other.attributes[sorted(other.attributes)[-1]])
        case 7 if "val" in one.attributes:
            tensor = one.attributes["val"].immediateValue.tensor
            tensor.ints.values[:] = [int(generator.choice([-1, 0, 1 << 30, -(1 << 31)])) for _ in tensor.ints.values]
        case 8 if "val" in one.attributes:
            one.attributes["val"].blobFileValue.offset = int(generator.integers(0, 1 << 20)) * 64
            one.attributes["val"].blobFileValue.fileName = "@model_path/weights/weight.bin"


@needs_fixtures
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_changed_programs(name: str, seed: int, tmp_path: Path) -> None:
    """Well-formed protobufs that say something else; sizes of 2^62 among them are never allocated."""
    copy = tmp_path / "m.mlpackage"
    (copy / "Data/com.apple.CoreML/weights").mkdir(parents=True)
    for place in (WEIGHTS, "Manifest.json"):
        shutil.copyfile(package(name) / place, copy / place)
    original = read_package(package(name)).spec
    generator = np.random.default_rng(seed)
    refused = 0
    for _ in range(ROUNDS):
        spec = Model_pb2.Model()
        spec.CopyFrom(original)
        for _ in range(generator.integers(1, 4)):
            mutate(spec.mlProgram, generator)
        (copy / MODEL).write_bytes(spec.SerializeToString())
        refused += check(copy)
    assert refused > ROUNDS // 4  # the changes do reach what is checked
