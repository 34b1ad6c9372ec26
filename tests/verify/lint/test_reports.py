"""What people, programs and code hosts get to see of a report, and what the exit status says."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from mil.compile import compile_package
from mil.package import write_package
from mil.program import Program
from tests.verify.lint.cases import CASES, FLOAT, SOUND, function, made, relu
from tests.verify.lint.sarif import LOG
from verify.commands.line import main
from verify.linting.document import as_json, as_sarif
from verify.linting.lint import Choices, lint
from verify.linting.page import page
from verify.linting.table import RULES
from verify.linting.text import heading, tables

DOCS = Path(__file__).parents[3] / "docs" / "lint.md"
LSTMS = function(
    made("fp16 1 4", "a", "lstm", x="x"),
    made("fp16 1 4", "b", "lstm", x="a"),
    made("fp32 1 4", "y", "cast", x="b", dtype='string("fp32")'),
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `python -m verify lint` and gives its status and what it printed."""

    def ran(*arguments: str | Path) -> tuple[int, str, str]:
        status = main(["lint", *map(str, arguments)])
        return status, *capsys.readouterr()

    return ran


def written(program: Program, folder: Path, name: str = "model") -> tuple[Path, Path]:
    """Write a program as a package and compile it; return both."""
    package = folder / f"{name}.mlpackage"
    write_package(program.spec, {}, package)
    return package, compile_package(package, folder).path


def test_operations_that_break_a_rule_alike_are_one_line(tmp_path: Path, run: Run) -> None:
    """With their number, their names, why, and what to do."""
    package, _ = written(LSTMS, tmp_path)
    status, out, _ = run(package)
    assert status == 0
    assert "main (ios17): 3 operations: 1 (33.3 %) may run on the Neural Engine, 2 may not, 1 crossing" in out
    assert "O1   [warning] lstm × 2: a recurrent layer has no kernel there, at any precision\n         at a, b\n" in out
    assert "0 errors, 2 warnings, 1 note" in out


def test_package_and_bundle_are_found_alike(tmp_path: Path, run: Run) -> None:
    """But for the path."""
    package, bundle = written(LSTMS, tmp_path)
    (one, other) = (json.loads(run(path, "--json")[1])[0] for path in (package, bundle))
    assert one | {"path": ""} == other | {"path": ""}


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ((), 0),
        (("--fail-on", "warning"), 1),
        (("--fail-on", "warning", "--waive", "O1", "--waive", "R5"), 0),
        (("--fail-on", "note", "--waive", "O1", "--waive", "R5"), 1),
        (("--require", "O1"), 1),
        (("--require", "O1", "--fail-on", "never"), 0),
    ],
)
def test_the_exit_status_tells(tmp_path: Path, run: Run, flags: tuple, status: int) -> None:
    """1 for a finding at or above the level that fails; what is waived counts for nothing, what is required for all."""
    package, _ = written(LSTMS, tmp_path)
    assert run(package, *flags)[0] == status


def test_half_precision_outputs_fail_by_themselves(tmp_path: Path, run: Run) -> None:
    """An error needs no flag."""
    package, _ = written(SOUND, tmp_path)
    assert run(package)[0] == 1


def test_bad_usage_is_told_apart(tmp_path: Path, run: Run) -> None:
    """2, and a sentence: no path, a rule that does not exist, a file that is no model."""
    assert run()[0] == 2
    status, _, complaint = run(tmp_path, "--waive", "Z9")
    assert (status, "'Z9' is no rule" in complaint) == (2, True)
    assert run(tmp_path / "absent.mlpackage")[0] == 2


def test_a_waiver_that_nothing_needs_is_told() -> None:
    """Or it would outlive its reason."""
    report = lint(SOUND, Choices(waive={"P5": "asked for", "O1": "no use"}))
    assert [f.rule.id for f in report.waived] == ["P5"]
    assert report.notes == ("O1 is waived and finds nothing; the waiver can go",)
    assert report.count("error") == 0


def test_a_waived_operation_still_leaves() -> None:
    """A waiver changes what counts, not where an operation runs."""
    waived = lint(FLOAT, Choices(waive={"P1": "single precision is wanted"}))
    assert waived.neural_engine_share == 0
    assert as_json("x", waived)["waived"][0]["reason"] == "single precision is wanted"


@pytest.mark.parametrize("rule", CASES)
def test_every_report_is_sarif(rule: str) -> None:
    """Each rule's findings fit the schema, and name their rule."""
    log = as_sarif({"some model.mlpackage": lint(CASES[rule][0])})
    jsonschema.validate(log, LOG, jsonschema.Draft202012Validator)
    (run,) = log["runs"]
    described = [one["id"] for one in run["tool"]["driver"]["rules"]]
    assert rule in [result["ruleId"] for result in run["results"]]
    assert all(described[result["ruleIndex"]] == result["ruleId"] for result in run["results"])


def test_the_schema_refuses_what_is_not_sarif() -> None:
    """The test above can fail."""
    log = as_sarif({"model.mlpackage": lint(SOUND)})
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, LOG, jsonschema.Draft202012Validator)


def test_a_code_host_is_shown_the_line(tmp_path: Path, run: Run) -> None:
    """Of a bundle, each operation's place in model.mil; of others what is named is the operation."""
    _, bundle = written(LSTMS, tmp_path)
    log = json.loads(run(bundle, "--sarif")[1])
    (result,) = [one for one in log["runs"][0]["results"] if one["ruleId"] == "O1"]
    lines = (bundle / "model.mil").read_text().splitlines()
    places = [result["locations"][0], *result["relatedLocations"]]
    shown = [
        lines[place["physicalLocation"]["region"]["startLine"] - 1].split(" = ")[0].split()[-1] for place in places
    ]
    assert shown == ["a", "b"]
    assert [place["logicalLocations"][0]["fullyQualifiedName"] for place in places] == ["main/a", "main/b"]
    assert result["occurrenceCount"] == 2


def test_waived_findings_are_suppressed_with_the_reason() -> None:
    """So that a code host shows them as such."""
    log = as_sarif({"m": lint(SOUND, Choices(waive={"P5": "asked for"}))})
    jsonschema.validate(log, LOG, jsonschema.Draft202012Validator)
    (result,) = [one for one in log["runs"][0]["results"] if one["ruleId"] == "P5"]
    assert result["suppressions"] == [{"kind": "external", "justification": "asked for"}]


def test_a_terminal_gets_tables() -> None:
    """The same sections, in columns."""
    from rich.console import Console

    console = Console(width=140, record=True, file=io.StringIO())
    for table in tables(lint(LSTMS)):
        console.print(table)
    text = console.export_text()
    assert "leaves the Neural Engine" in text
    assert "lstm × 2" in text


def test_several_functions_are_told_apart() -> None:
    """Each has its own line and its findings bear its name."""
    report = lint(function(relu(), opset="ios18"))
    assert heading(report.functions[0]).startswith("main (ios18): 1 operation: 1 (100.0 %) may run")


def test_the_rules_are_listed(run: Run) -> None:
    """One line each, those that a program does not decide with the reason."""
    lines = run("--rules")[1].splitlines()
    assert len(lines) == len(RULES)
    assert any(line.startswith("R2") and "not decided: needs a Mac with a Neural Engine" in line for line in lines)


def test_the_page_of_rules_is_up_to_date(run: Run) -> None:
    """`python -m verify lint --markdown > docs/lint.md`"""
    assert DOCS.read_text() == page() == run("--markdown")[1]
