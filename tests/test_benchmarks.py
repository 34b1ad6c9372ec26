"""Benchmarks compare fairly, say what they could not run, and run. What a time should be is not tested."""

import json
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import mil
from benchmarks import fusions, recipe
from benchmarks.fusion_cases import case_makers
from benchmarks.fusions import NEEDS_MACOS, NEEDS_REST, Row, Timing, table
from benchmarks.interleaved import Estimate, abba, median, quotient
from benchmarks.networks import Sortformer
from converters.models import sortformer
from converters.networks.sortformer.layout import Sizes
from converters.networks.sortformer.stand_in import stand_in
from converters.networks.sortformer.upstream import nemo_runner
from pipeline import marks, plugins
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.types import QuernError

TIMING = Timing(Estimate(0.1, 0.09, 0.12), Estimate(0.5, 0.4, 0.6))


def row(**timings: Timing | str) -> Row:
    return Row("masks", "fused", 1, 37, 2.98, 1.32, 0.0, timings)


def test_every_round_goes_there_and_back() -> None:
    """So that what slows a machine down over a round falls on all alike; the first round does not count."""
    order: list[str] = []
    ticks = count()
    contenders = {name: lambda name=name: order.append(name) for name in "abc"}
    times = abba(contenders, rounds=2, clock=lambda: float(next(ticks)))
    assert "".join(order) == "abccba" * 3
    assert times == {name: [1.0, 1.0] for name in "abc"}


def test_an_interval_holds_its_value_and_widens_with_the_noise() -> None:
    """It is the same every time, and a point where all rounds agree."""
    times = np.random.default_rng(0).uniform(1, 2, 20).tolist()
    narrow, wide = quotient([2 * t for t in times], times), median(times)
    assert narrow == pytest.approx((2, 2, 2))
    assert wide.low < wide.value < wide.high
    assert median(times) == wide
    assert quotient(times, times[::-1]).low < 1 < quotient(times, times[::-1]).high


def test_every_fusion_that_is_declared_is_measured() -> None:
    """Each way of fusing once, whatever its weights and palettes."""
    declared = [v for v in read_matrix(ROOT / "variants.yaml").variants if v.network == plugins.FUSED]
    makers = case_makers(declared, (1, 1))
    measured = [makers[name].args[1] for name in makers if name not in ("sortformer", "wespeaker")]
    assert all(measured.count(variant.form) == 1 for variant in declared)
    assert len(makers) == len(measured) + 2


def test_what_was_not_run_is_said_below_the_table() -> None:
    """A place without times has no column."""
    lines = table([row(interpreter=TIMING, CPU_ONLY=NEEDS_MACOS, ALL=NEEDS_MACOS)])
    assert lines[2] == "| masks | fused | 1 | 37 | 2.98 | 1.32 | 0 | 100.0 (90.0–120.0) | 0.5 (0.4–0.6) |"
    assert lines[3] == "\nCPU_ONLY, ALL: not run: needs macOS."
    assert Counter(line.count("|") for line in lines[:3]) == {10: 3}
    assert "interpreter ms" not in table([row(interpreter=NEEDS_REST)])[0]


def test_a_page_without_marks_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """And so is a page that would show a part of the cases."""
    written = tmp_path / "page.md"
    written.write_text("<!-- table: begin -->\n")
    with pytest.raises(QuernError, match="expected the marks <!-- table: begin --> and <!-- table: end -->"):
        fusions.main(["--into", str(written)])
    with pytest.raises(SystemExit):
        fusions.main(["masks", "--into", str(written)])


def test_a_table_replaces_the_one_between_its_marks(tmp_path: Path) -> None:
    """The text around it stays, and other tables do."""
    written, other = tmp_path / "page.md", "<!-- b: begin -->\nkept\n<!-- b: end -->\n"
    written.write_text(f"before\n<!-- a: begin -->\nold\n<!-- a: end -->\n{other}")
    marks.put(written, "a", "new")
    assert written.read_text() == f"before\n<!-- a: begin -->\nnew\n<!-- a: end -->\n{other}"


def test_the_page_shows_what_there_is_to_measure() -> None:
    """Its table names every case, and no other."""
    before, after = marks.around(ROOT / "docs" / "fusions.md", "table")
    lines = (ROOT / "docs" / "fusions.md").read_text().removeprefix(before).removesuffix(after).splitlines()
    shown = {line.split("|")[1].strip() for line in lines if line.startswith("| ")} - {"work"}
    assert shown == set(case_makers(read_matrix(ROOT / "variants.yaml").variants, (1, 1)))


@pytest.mark.slow
def test_fused_programs_compute_what_their_parts_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Bit for bit and in the same precision, chained, in a pipeline and fused; where there is no Mac, it says so."""
    fusions.main(["masks", "sortformer", "--layers", "1", "1", "--rounds", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [(each["case"], each["form"], each["programs"]) for each in found] == [
        *[("masks", "chained", 2), ("masks", "pipeline", 2), ("masks", "fused", 1)],
        *[("sortformer", "chained", 3), ("sortformer", "pipeline", 3), ("sortformer", "fused", 1)],
    ]
    for chained, pipeline, fused in (found[:3], found[3:]):
        assert pipeline["off_by"] == fused["off_by"] == 0
        assert pipeline["weights_mb"] == chained["weights_mb"]
        assert fused["weights_mb"] == pytest.approx(chained["weights_mb"], rel=0.01)
        assert fused["operations"] <= chained["operations"] == pipeline["operations"]
        assert all(fused["timings"][units] == NEEDS_MACOS for units in fusions.COMPUTE_UNITS)


def test_the_build_is_held_against_the_recipe_for_as_many_variants() -> None:
    """Both make every context at every width; the recipe's whole is scaled from its means."""
    count = len(recipe.published())
    lines = recipe.table(
        [recipe.Plain("default, 6 bits", 60, 240)], [recipe.Built(30, 2 * 10**9), recipe.Built(300, 2 * 10**9)]
    ).splitlines()
    assert lines[3] == "| these 1 | 60 s | 240 s | 30 s | 10.0 × |"
    assert lines[4].startswith(f"| all {count} (≈) | {60 * count} s | {240 * count * 2 / 3:.0f} s | 300 s |")
    assert lines[-1].endswith("2.00 GB.")


@pytest.mark.slow
@pytest.mark.reference
def test_the_recipe_converts_upstreams_modules(tmp_path: Path) -> None:
    """What it makes of NeMo's Sortformer runs, and says what NeMo's own export says."""
    pytest.importorskip("nemo")
    form = sortformer.Form()
    sizes = Sizes(conformer_layers=1, transformer_layers=1)
    network = Sortformer(stand_in(sizes, seed=0), form)
    example = network.example()
    recipe.converted(network).save(str(tmp_path / "model.mlpackage"))
    inputs = {name: tensor.numpy() for name, tensor in example.items()}
    found = mil.load(tmp_path / "model.mlpackage").run(inputs, "float32")
    expected = nemo_runner(network.model, "streaming", form.frames)(inputs)
    for name in network.outputs:
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name] / largest, expected[name] / largest, atol=5e-3)  # weights are fp16
