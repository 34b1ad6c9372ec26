"""Benchmarks compare fairly, say what they could not run, and run. What a time should be is not tested."""

import json
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fusions
from benchmarks.fusion_cases import case_makers
from benchmarks.fusions import BEGIN, END, NEEDS_MACOS, NEEDS_REST, Row, Timing, table
from benchmarks.interleaved import Estimate, abba, median, quotient
from pipeline import plugins
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
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n")
    with pytest.raises(QuernError, match=f"expected the marks {BEGIN} and {END}"):
        fusions.main(["--into", str(page)])
    with pytest.raises(SystemExit):
        fusions.main(["masks", "--into", str(page)])


def test_the_page_shows_what_there_is_to_measure() -> None:
    """Its table names every case, and no other."""
    lines = (ROOT / "docs" / "fusions.md").read_text().partition(BEGIN)[2].partition(END)[0].splitlines()
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
