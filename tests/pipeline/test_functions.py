"""Variants that become functions of one artifact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mil
from mil.package import read_package
from tests.fixtures import FIXTURES, needs_fixtures
from tests.pipeline.conftest import MATRIX, UNITS, Ran

pytestmark = [needs_fixtures, pytest.mark.slow]

TOGETHER = """
  together:
    checkpoint: [segmentation-3.0]
    file: pyannote_both
    functions: {plain: fp16, small: w6}
    axes: {kind: {functions: {}}}
    checks: [alias, functions]
    limits:
      alias.package: {most: 0, unit: findings, reason: it crashes, required: build}
      functions.differing: {most: 0, unit: functions, reason: each is its part, required: build}
"""


@pytest.fixture(scope="module")
def build(quern: Callable[..., Ran], built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Return the command on a matrix that has the variant of two functions, where the others are built already."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "variants.yaml").write_text(MATRIX + TOGETHER)
    shutil.copytree(built, folder / "out")

    def run(*arguments: str) -> Ran:
        asked = ("segmentation-3.0/functions", "--weights-dir", FIXTURES, "--out", folder / "out")
        return quern(*asked, "--matrix", folder / "variants.yaml", "--json", *arguments)

    return run


def test_the_functions_are_the_variants(build: Callable[..., Ran]) -> None:
    """Each gives what its own artifact gives, in the package and in the bundle, and the manifest says which it is."""
    ran = build()
    assert ran.status == 0, ran.err
    (variant,) = ran.document["variants"]
    folder = Path(variant["folder"]).parent
    assert json.loads((folder / "functions" / "manifest.json").read_text())["functions"] == {
        "plain": "segmentation-3.0/fp16",
        "small": "segmentation-3.0/w6",
    }
    strings = read_package(folder / "functions" / "pyannote_both.mlpackage").spec.description.metadata.userDefined
    assert strings["quern.compute_units"] == UNITS["recommend"]
    audio = np.random.default_rng(0).normal(size=(1, 1, 32000)).astype(np.float32)
    for suffix in ("mlpackage", "mlmodelc"):
        both = mil.load(folder / "functions" / f"pyannote_both.{suffix}")
        for name, part in (("plain", "fp16"), ("small", "w6")):
            expected = mil.load(folder / part / f"pyannote_segmentation.{suffix}").run({"audio": audio})
            assert np.array_equal(both.run({"audio": audio}, function=name)["segments"], expected["segments"])


def test_what_the_parts_made_is_not_made_again(build: Callable[..., Ran]) -> None:
    """Their steps are those of the variants themselves, which were built before."""
    (variant,) = build("--until", "compile").document["variants"]
    steps = {step["name"]: step["seconds"] for step in variant["steps"]}
    assert list(steps) == ["weights", "convert", "label", "palettize", "merge", "compile"]
    assert [steps[name] for name in ("weights", "convert", "label", "palettize")] == [None] * 4
