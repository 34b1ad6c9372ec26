"""Where an artifact should run is declared with its source, and travels with the artifact."""

import json
from pathlib import Path

import pytest
import yaml

from mil.package import read_package
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.types import ComputeUnits
from tests.fixtures import FIXTURES
from tests.pipeline.conftest import UNITS
from tests.pipeline.test_config import SMALL, complaints, functions_of, read

BLOCK = "    file: segmentation\n"
DECLARED = f"{BLOCK}    compute_units: {{recommend: cpuOnly, source: a paper}}\n"
PLACE = "variants.yaml: variants.segmentation.compute_units"


def test_a_block_and_its_axis_values_recommend_compute_units(tmp_path: Path) -> None:
    """An axis value's are laid over the block's, with their own source; undeclared stays undeclared."""
    assert {variant.compute_units for variant in read(tmp_path, SMALL).variants} == {None}
    own = "        5s: {compute_units: {recommend: cpuAndGPU, source: a talk}, "
    long, short, _ = read(tmp_path, SMALL.replace(BLOCK, DECLARED).replace("        5s: {", own)).variants
    assert long.compute_units == ComputeUnits("cpuOnly", "a paper")
    assert short.compute_units == ComputeUnits("cpuAndGPU", "a talk")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("cpuOnly", "cpuOnli", ".recommend.cpuOnli: unknown compute units; did you mean 'cpuOnly'?"),
        (
            "cpuOnly",
            "CPU_AND_NE",
            ".recommend.CPU_AND_NE: unknown compute units; there is all, cpuAndGPU, cpuAndNeuralEngine, cpuOnly",
        ),
        (", source: a paper", "", ".source: missing; expected text"),
        ("a paper", "' '", ": source: expected who says so, found nothing"),
        ("source", "sauce", ".sauce: unknown option; did you mean 'source'?"),
    ],
)
def test_a_recommendation_that_says_nothing_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """Names are those of MLComputeUnits, and each needs its source."""
    found = complaints(tmp_path, SMALL.replace(BLOCK, DECLARED.replace(old, new)))
    assert f"{PLACE}{complaint}" in found


def test_a_format_without_the_choice_refuses_it(tmp_path: Path) -> None:
    """Only Core ML asks an app where to run."""
    written = yaml.safe_load(SMALL.replace(BLOCK, f"{DECLARED}    format: gguf\n"))
    written["variants"]["segmentation"]["axes"] = {}
    found = complaints(tmp_path, yaml.safe_dump(written))
    assert f"{PLACE}: gguf leaves no choice of compute units; take it out, or use coreml" in found


def test_an_artifact_of_functions_leaves_it_to_them(tmp_path: Path) -> None:
    """One recommendation for all would be wrong for some."""
    units = {"recommend": "cpuOnly", "source": "a paper"}
    (complaint,) = complaints(tmp_path, functions_of("fp16", compute_units=units))
    assert "compute_units: each function has its own; set it in the variant that it is made of" in complaint


def test_the_artifact_carries_it(built: Path) -> None:
    """In the package, in the compiled bundle, and in the manifest."""
    folder = built / "segmentation-3.0" / "w6"
    strings = {"quern.compute_units": UNITS["recommend"], "quern.compute_units_source": UNITS["source"]}
    package = read_package(folder / "pyannote_segmentation.mlpackage")
    [bundle] = json.loads((folder / "pyannote_segmentation.mlmodelc" / "metadata.json").read_text())
    for found in (dict(package.spec.description.metadata.userDefined), bundle["userDefinedMetadata"]):
        assert strings.items() <= found.items()
    assert json.loads((folder / "manifest.json").read_text())["compute_units"] == {"main": UNITS}


def test_another_word_computes_nothing(quern, copied: Path, matrix: Path, tmp_path: Path) -> None:
    """A new source is written into the artifact, and nothing is converted, compressed or run again."""
    other = tmp_path / "variants.yaml"
    other.write_text(matrix.read_text().replace("a paper", "a talk"))
    ran = quern("--matrix", other, "--out", copied, "--weights-dir", FIXTURES, "--json")
    assert ran.status == 0, ran.err
    for variant in ran.document["variants"]:
        done = {step["name"] for step in variant["steps"] if step["seconds"] is not None}
        assert done == {"label", "compile", "alias", "size", "placement"}
    package = read_package(copied / "segmentation-3.0" / "w6" / "pyannote_segmentation.mlpackage")
    assert package.spec.description.metadata.userDefined["quern.compute_units_source"] == "a talk"


def test_long_sortformers_are_kept_off_the_neural_engine() -> None:
    """Rule D5 of the lint says that those do not compile for it; each recommendation in the matrix names its source."""
    declared = {variant.id: variant.compute_units for variant in read_matrix(ROOT / "variants.yaml").variants}
    for name in ("sortformer-v2.1/w6-high", "sortformer-v2/fp16-high", "sortformer-v2.1/w8-offline"):
        units = declared[name]
        assert units is not None
        assert units.recommend == "cpuAndGPU"
        assert "rule D5" in units.source
