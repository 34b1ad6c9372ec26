"""Several programs become the functions of one package, and each still computes what it did."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mil
from converters.formats import coreml
from mil.compile import compile_package
from mil.errors import MilError
from mil.merge import merge
from mil.package import read_package
from optimizations import palettize
from pipeline.code import ROOT
from pipeline.types import Tensor

SIZES = (4, 8)


class Layer(torch.nn.Module):
    """A large weight that all lengths share, and a table of its own for each."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(64, 64, generator=generator))
        self.table = torch.nn.Parameter(torch.arange(rows * 64.0).reshape(rows, 64) / 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.table


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages of two lengths, as converted and with 6-bit palettes."""
    folder = tmp_path_factory.mktemp("parts")
    made = {}
    for rows in SIZES:
        axes = ("row", "feature")
        tensors = [Tensor(name, axes, (rows, 64), "float32", "value") for name in ("x", "y")]
        made[f"rows{rows}"] = folder / f"rows{rows}.mlpackage"
        options = coreml.Options(precision="fp16", target="iOS17")
        strings = {"rows": str(rows), "made": "here"}
        coreml.convert(Layer(rows).eval(), tensors[:1], tensors[1:], strings, options, made[f"rows{rows}"])
        made[f"rows{rows}-w6"] = folder / f"rows{rows}-w6.mlpackage"
        memo = lambda facts, run, home=folder / f"memo{rows}": (home.mkdir(exist_ok=True), run(home), home)[2]  # noqa: E731
        palettize.apply(made[f"rows{rows}"], palettize.Options(nbits=6), memo, made[f"rows{rows}-w6"])
    return made


def merged(parts: dict[str, Path], suffix: str, destination: Path) -> Path:
    merge({f"rows{rows}": parts[f"rows{rows}{suffix}"] for rows in SIZES}, "rows4", destination)
    return destination


@pytest.mark.parametrize("suffix", ["", "-w6"])
def test_each_function_computes_what_its_package_does(parts: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    """To the bit, whether its weights are plain or palettes, in the package and in its compiled form."""
    package = merged(parts, suffix, tmp_path / "both.mlpackage")
    bundle = compile_package(package, tmp_path).path
    for rows in SIZES:
        x = np.random.default_rng(rows).standard_normal((rows, 64)).astype(np.float32)
        expected = mil.load(parts[f"rows{rows}{suffix}"]).run({"x": x})["y"]
        for artifact in (package, bundle):
            found = mil.load(artifact, function_name=f"rows{rows}").run({"x": x})["y"]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", ["", "-w6"])
def test_what_functions_share_is_stored_once(parts: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    """The file grows by the tables that differ, and not by the weight."""
    one, both = (
        sum(file.stat().st_size for file in path.rglob("weight.bin"))
        for path in (parts[f"rows8{suffix}"], merged(parts, suffix, tmp_path / "both.mlpackage"))
    )
    assert one < both < 1.3 * one


def test_it_is_what_coremltools_writes(parts: dict[str, Path], tmp_path: Path) -> None:
    """Program and weights equal those of `save_multifunction`; only the metadata, which that drops, are more."""
    code = f"""
from converters.toolchain import coremltools
ct = coremltools()
wanted = ct.utils.MultiFunctionDescriptor()
for rows in {SIZES}:
    wanted.add_function(f"{parts["rows4"].parent}/rows{{rows}}.mlpackage", "main", f"rows{{rows}}")
wanted.default_function_name = "rows4"
ct.utils.save_multifunction(wanted, "{tmp_path}/theirs.mlpackage")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    theirs = read_package(tmp_path / "theirs.mlpackage").spec
    ours = read_package(merged(parts, "", tmp_path / "ours.mlpackage")).spec
    for spec in (ours, theirs):
        for described in spec.description.functions:
            for feature in [*described.input, *described.output]:
                feature.ClearField("shortDescription")
    strings = dict(ours.description.metadata.userDefined)
    assert (strings["rows4.rows"], strings["rows8.rows"], strings["made"]) == ("4", "8", "here")
    ours.description.ClearField("metadata")
    assert ours == theirs
    weights = [next(tmp_path.glob(f"{name}.mlpackage/**/weight.bin")).read_bytes() for name in ("ours", "theirs")]
    assert weights[0] == weights[1]


def test_the_same_parts_give_the_same_bytes(parts: dict[str, Path], tmp_path: Path) -> None:
    """Whatever the order in which protobuf maps come."""
    code = (
        "import sys; from pathlib import Path; from mil.merge import merge;"
        "merge({'a': Path(sys.argv[1]), 'b': Path(sys.argv[2])}, 'a', Path(sys.argv[3]))"
    )
    for seed in ("1", "2"):
        arguments = [str(parts["rows4-w6"]), str(parts["rows8-w6"]), str(tmp_path / f"{seed}.mlpackage")]
        subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, env={"PYTHONHASHSEED": seed})
    files = [sorted(p for p in (tmp_path / f"{seed}.mlpackage").rglob("*") if p.is_file()) for seed in ("1", "2")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


def test_the_default_must_be_one_of_them(parts: dict[str, Path], tmp_path: Path) -> None:
    """Nothing is written for a name that is none."""
    with pytest.raises(MilError, match="default function 'rows9': expected one of rows4"):
        merge({"rows4": parts["rows4"]}, "rows9", tmp_path / "no.mlpackage")
    assert not (tmp_path / "no.mlpackage").exists()


def test_what_has_several_functions_is_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    """Functions of functions have no meaning."""
    both = merged(parts, "", tmp_path / "both.mlpackage")
    with pytest.raises(MilError, match="expected an ML program of one function"):
        merge({"a": both}, "a", tmp_path / "no.mlpackage")
