"""The lint as a check of the matrix, with the rules that a variant waives or requires."""

from pathlib import Path
from typing import Any

import pytest

from mil.package import write_package
from pipeline.config import read_matrix
from pipeline.types import Measurement, QuernError, Subject
from tests.verify.lint.cases import SOUND, constant, function, made
from verify.lint import MEASURES, Options, measure

MATRIX = """
checkpoints:
  mine: {network: segmentation, licence: MIT}
variants:
  segmentation:
    checkpoint: [mine]
    file: segmentation
    checks: [alias, lint]
    check_options: {lint: {require: {D1: "the waveform stays outside"}}}
    axes:
      form:
        default: {}
        io16:
          form: {io: fp16}
          check_options: {lint: {waive: {P5: "half precision is what this variant is for"}}}
"""


def measured(folder: Path, program: Any, options: Options | None = None) -> dict[str, Measurement]:
    package = folder / "model.mlpackage"
    write_package(program.spec, {}, package)
    return {m.name: m for m in measure(Subject((), (), package, options=options))}


def test_every_measurement_is_made(tmp_path: Path) -> None:
    """Counts and shares, with the findings as detail."""
    program = function(
        made("fp16 1 4", "a", "lstm", x="x"), made("fp32 1 4", "y", "cast", x="a", dtype='string("fp32")')
    )
    found = measured(tmp_path, program)
    assert {name: m.value for name, m in found.items()} == {
        "errors": 0,
        "warnings": 2,
        "neural_engine_share": 0.5,
        "crossings": 1,
        "casts": 1,
        "fp32_share": 0,
    }
    assert [f["rule"] for f in found["errors"].detail["findings"]] == ["O1", "R1", "R5"]
    assert {m.unit for m in found.values()} == set(MEASURES.values())


def test_a_waived_rule_is_no_error_and_a_required_one_is(tmp_path: Path) -> None:
    """The reason goes with it."""
    broken = measured(tmp_path / "0", SOUND)["errors"]
    assert (broken.value, broken.note) == (1, "P5: output `y` is fp16: its rows are padded")
    waived = measured(tmp_path / "1", SOUND, Options(waive={"P5": "wanted"}))["errors"]
    assert (waived.value, waived.detail["waived"][0]["reason"]) == (0, "wanted")
    assert measured(tmp_path / "2", SOUND, Options(require={"R1": "must be large"}))["errors"].value == 2


def test_another_format_is_not_run(tmp_path: Path) -> None:
    """A check that does not apply has no value, and says why."""
    assert {m.value for m in measure(Subject((), (), tmp_path / "model.onnx"))} == {None}


def test_a_program_without_operations_has_no_shares(tmp_path: Path) -> None:
    """Nothing is not all of it."""
    body = constant("fp32 1", "y", "[0x0p+0]")
    assert measured(tmp_path, function(body))["neural_engine_share"].value is None


def matrix(folder: Path, text: str) -> Path:
    path = folder / "variants.yaml"
    path.write_text(text)
    return path


def test_variants_waive_and_require_rules(tmp_path: Path) -> None:
    """An axis value adds to what the block says."""
    plain, half = read_matrix(matrix(tmp_path, MATRIX)).variants
    assert plain.check_options["lint"] == Options(require={"D1": "the waveform stays outside"})
    assert list(half.check_options["lint"].waive) == ["P5"]
    assert list(half.check_options["lint"].require) == ["D1"]


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("P5:", "P55:", "io16.check_options.lint: waive: 'P55' is no rule"),
        ('"half precision is what this variant is for"', '""', "waive.P5: expected the reason, found ''"),
        ("waive:", "waife:", "io16.check_options.lint.waife: unknown option; did you mean 'waive'?"),
        ("{lint: {waive", "{lintt: {waive", "io16.check_options.lintt: unknown check of this variant"),
        ("{lint: {require", "{alias: {require", "check_options.alias: the check takes no options"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, right: str, wrong: str, complaint: str) -> None:
    """A misspelt rule would waive nothing, and a waiver without a reason is none."""
    assert right in MATRIX
    with pytest.raises(QuernError) as error:
        read_matrix(matrix(tmp_path, MATRIX.replace(right, wrong)))
    assert complaint in str(error.value)
