"""The comparison with coremltools: on which weights it is made, what it counts, and how its table looks."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools")

from benchmarks.palettes import FEWEST_DISTINCT, LARGE, _claimable, fewest_distinct, main, redrawn, weights
from converters.models import segmentation
from converters.networks.sortformer.layout import Sizes
from converters.networks.sortformer.layout import parameter_shapes as sortformer_shapes
from converters.networks.wespeaker_layout import parameter_shapes as wespeaker_shapes
from tests.fixtures import FIXTURES, needs_fixtures
from tests.optimizations.packages import linear_package, normal, varied_package


@needs_fixtures
def test_trained_segmentation_is_fine_enough_for_a_claim():
    """Every large matrix of it has more than 10,000 different fp16 values."""
    path = FIXTURES / "segmentation-3.0" / "model.safetensors"
    network = segmentation.load(segmentation.read({path.name: path}), segmentation.Form())
    assert fewest_distinct(each.numpy() for each in network.state_dict().values()) > FEWEST_DISTINCT


@pytest.mark.parametrize("shapes", [wespeaker_shapes(), sortformer_shapes(Sizes())], ids=["wespeaker", "sortformer"])
def test_redrawn_weights_are_fine_enough_for_a_claim(shapes):
    """Normal numbers in the smallest large matrices of both networks have more than 10,000 different fp16 values."""
    sizes = sorted({math.prod(shape) for shape in shapes.values() if len(shape) > 1 and math.prod(shape) > LARGE})
    assert fewest_distinct(normal(0, size) for size in sizes[:3]) > FEWEST_DISTINCT


def test_redrawn_weights_keep_their_scale(tmp_path: Path):
    """Shape, type and root mean square stay, the values do not; equal seeds give equal packages."""
    source = linear_package(tmp_path / "source.mlpackage", normal(0, 64, 64) + np.float16(0.2))
    (tmp_path / "a").mkdir()
    before, after = weights(source), weights(redrawn(source, tmp_path / "a"))
    (name,) = (name for name, value in before.items() if value.size > 2048)
    assert after[name].dtype == before[name].dtype
    assert after[name].shape == before[name].shape
    assert abs(after[name].astype(float).mean()) < 0.02
    assert np.sqrt(np.mean(after[name].astype(float) ** 2)) == pytest.approx(
        np.sqrt(np.mean(before[name].astype(float) ** 2)), rel=0.05
    )


def test_only_what_is_too_coarse_is_drawn_anew(tmp_path: Path):
    """Weights that are fine enough for a claim are palettized as they are."""
    fine = linear_package(tmp_path / "fine.mlpackage", normal(0, 256, 256))
    coarse = linear_package(tmp_path / "coarse.mlpackage", np.round(normal(0, 256, 256), 1))
    (tmp_path / "drawn").mkdir()
    assert _claimable(fine, tmp_path / "drawn") == fine
    assert fewest_distinct(weights(_claimable(coarse, tmp_path / "drawn")).values()) > FEWEST_DISTINCT


def test_the_table_says_what_was_scaled_up(tmp_path: Path, capsys):
    """Where coremltools is given two weights of six, its time is marked; weights too small for a claim fail it."""
    source = varied_package(tmp_path / "source.mlpackage")
    told = ["--nbits", "4", "--rounds", "1", "--theirs-at-most", "2", "--json", str(tmp_path / "table.json")]
    assert main([str(source), *told]) == 1
    assert "≈ (2 of 6)" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "table.json").read_text())
    assert row["fewest"] == 0
    assert row["theirs_bytes"] is None
    assert row["worst_error_ratio"] <= 1 + 1e-6
    assert row["tensors"] == 6
    assert row["theirs_tensors"] == 2
