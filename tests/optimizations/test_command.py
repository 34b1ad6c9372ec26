"""`python -m optimizations`: any pass, on any package, by hand."""

import json

import numpy as np
import pytest

import mil
from optimizations.__main__ import main, names

pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: N813

from tests.optimizations.packages import content, linear_package, normal
from tests.optimizations.test_fold_frame_slices import build, cuts


@pytest.fixture
def framing(tmp_path):
    return build(
        tmp_path / "source.mlpackage", (100,), lambda x: mb.stack(values=cuts(x, 10, 10, 10), axis=0, name="y")
    )


@pytest.fixture
def linear(tmp_path):
    return linear_package(tmp_path / "linear.mlpackage", normal(0, 64, 96))


def test_a_pass_is_applied_and_tells_what_it_found(tmp_path, framing, capsys):
    """The result is a package; counts and findings are shown."""
    assert main(["fold_frame_slices", str(framing), "--out", str(tmp_path / "new" / "out.mlpackage")]) == 0
    shown = capsys.readouterr().out
    assert "slices: 10 → 0" in shown
    assert "folded: 1" in shown
    assert mil.load(tmp_path / "new" / "out.mlpackage").run({"x": np.arange(100)})["y"][3, 4] == 34


def test_options_are_those_of_variants_yaml(tmp_path, linear, capsys):
    """Numbers and lists, as in YAML; findings as JSON where wanted."""
    out = tmp_path / "out.mlpackage"
    arguments = ["palettize", str(linear), "nbits=4", "weight_threshold=16", "exclude=[]", "--out", str(out), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["weights"][0]["nbits"] == 4


def test_source_and_result_are_compared_on_inputs(tmp_path, linear, capsys):
    """Outputs, on what is drawn or given."""
    arguments = ["palettize", str(linear), "nbits=2", "--out", str(tmp_path / "out.mlpackage"), "--json"]
    assert main([*arguments, "--seed", "0"]) == 0
    (compared,) = json.loads(capsys.readouterr().out)["compared"]
    assert compared["name"] == "out"
    assert compared["largest"] > 0


def test_equal_commands_give_equal_bytes(tmp_path, linear):
    """No clock and no folder is in a result."""
    for name in ("one", "two"):
        assert main(["palettize", str(linear), "nbits=4", "--out", str(tmp_path / f"{name}.mlpackage")]) == 0
    assert content(tmp_path / "one.mlpackage") == content(tmp_path / "two.mlpackage")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["palettise", "{source}"], "palettise: no such pass; there is fold_frame_slices"),
        (["palettize", "{source}"], "palettize.nbits: missing; expected a whole number"),
        (["palettize", "{source}", "nbit=4"], "palettize.nbit: unknown option; did you mean 'nbits'?"),
        (["palettize", "{source}", "nbits=many"], "palettize.nbits: expected a whole number, found 'many'"),
        (["palettize", "{source}", "nbits=5"], "nbits: expected one of 1, 2, 3, 4, 6, 8, found 5"),
        (["palettize", "{source}", "nbits"], "nbits: expected OPTION=VALUE"),
        (["palettize", "{source}", "nbits=4", "nbits=6"], "nbits: given twice"),
        (["palettize", "{source}", "nbits=[4"], "nbits=[4: the value is no YAML"),
        (["palettize", "{source}.absent", "nbits=4"], "not there"),
        (["palettize", "{bundle}", "nbits=4"], "make it a package first: python -m mil decompile"),
        (["mixed_palette", "{source}", "size_mb=1"], "recordings"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, linear, capsys, arguments, sentence):
    """Status 2, nothing written."""
    (tmp_path / "bundle.mlmodelc").mkdir()
    places = {"source": linear, "bundle": tmp_path / "bundle.mlmodelc"}
    before = sorted(tmp_path.iterdir())
    given = [each.format(**places) for each in arguments]
    assert main([*given, "--out", str(tmp_path / "out.mlpackage")]) == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert shown.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_what_exists_is_replaced_only_when_told(tmp_path, linear, capsys):
    """Even where source and result are one."""
    assert main(["palettize", str(linear), "nbits=4", "--out", str(linear)]) == 2
    assert "exists already; --force replaces it" in capsys.readouterr().err
    assert main(["palettize", str(linear), "nbits=4", "--out", str(linear), "--force"]) == 0
    kinds = {each.operation for each in _traced(linear)}
    assert "linear" in kinds
    assert [path.name for path in tmp_path.iterdir()] == ["linear.mlpackage"]


def _traced(path):
    from mil.trace import trace

    program = mil.load(path)
    return [each for each, _ in trace(program, {"x": np.zeros((4, 96))}, "declared", None)]


def test_the_name_of_the_result_is_checked(tmp_path, linear, capsys):
    """A package is a folder whose name says so."""
    assert main(["palettize", str(linear), "nbits=4", "--out", str(tmp_path / "out")]) == 2
    assert "expected a name that ends in .mlpackage" in capsys.readouterr().err


def test_a_calibrated_pass_runs_where_it_needs_no_recordings(tmp_path, linear, capsys):
    """A pinned assignment without compensation is decided already."""
    out = tmp_path / "out.mlpackage"
    options = ["compensate=false", "assignment={main/linear_weight_0: 4}"]
    assert main(["mixed_palette", str(linear), *options, "--out", str(out)]) == 0, capsys.readouterr().err
    assert out.is_dir()


@pytest.mark.parametrize("name", names())
def test_each_pass_teaches_its_options(name, capsys):
    """Name, type and default of every option, and what the pass does."""
    from dataclasses import fields

    from optimizations.__main__ import module

    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert all(f"  {each.name} " in shown for each in fields(module(name).Options))
    assert (module(name).__doc__ or "").partition("\n")[0] in shown


def test_the_passes_are_listed(capsys):
    """With one line each."""
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in names())
