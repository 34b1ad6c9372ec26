"""A report as JSON, and as SARIF 2.1.0 for code hosts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from verify.linting.lint import Group, Report, groups
from verify.linting.rule import Rule
from verify.linting.scope import Operation
from verify.linting.table import RULES

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MOST_RELATED = 20
_RESULT = re.compile(r" ([A-Za-z_][\w.@/:]*) = \w+\(")

Lines = Mapping[str, int]


def as_json(path: str, report: Report) -> dict[str, Any]:
    """Return everything that was found."""
    return {
        "path": path,
        "neural_engine_share": report.neural_engine_share,
        "functions": [vars(summary) for summary in report.functions],
        "findings": [_group_as_json(group) for group in groups(report.findings)],
        "waived": [
            _group_as_json(group) | {"reason": report.choices.waive[group.rule.id]} for group in groups(report.waived)
        ],
        "notes": list(report.notes),
    }


def _group_as_json(group: Group) -> dict[str, Any]:
    return {
        "rule": group.rule.id,
        "level": group.level,
        "leaves_neural_engine": group.rule.leaves,
        "only": group.rule.only,
        "confidence": group.rule.confidence,
        "source": group.rule.source,
        "remedy": group.rule.remedy,
        "function": group.where,
        "sentence": group.sentence,
        "operations": [
            {"type": operation.type, "name": operation.name, "block": operation.block} for operation in group.operations
        ],
    }


def as_sarif(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return a SARIF log of several reports, by the path of the artifact."""
    decided = [rule for rule in RULES if not rule.undecidable]
    results = [
        _result(path, group, decided.index(group.rule), lines, reason)
        for path, report in reports.items()
        for lines in [source_lines(Path(path))]
        for group, reason in _with_reasons(report)
    ]
    driver = {"name": "quern-lint", "rules": [_rule(rule) for rule in decided]}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _with_reasons(report: Report) -> list[tuple[Group, str]]:
    waived = [(group, report.choices.waive[group.rule.id]) for group in groups(report.waived)]
    return [*((group, "") for group in groups(report.findings)), *waived]


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "help": {"text": f"{rule.remedy}. Source: {rule.source}."},
        "defaultConfiguration": {"level": rule.level},
        "properties": {"confidence": rule.confidence, "severity": rule.severity, "only": rule.only},
    }


def _result(path: str, group: Group, index: int, lines: Lines, reason: str) -> dict[str, Any]:
    places = [_location(path, group.where, operation, lines) for operation in group.operations[: _MOST_RELATED + 1]]
    result: dict[str, Any] = {
        "ruleId": group.rule.id,
        "ruleIndex": index,
        "level": group.level,
        "message": {"text": _message(group)},
        "locations": places[:1] or [_location(path, group.where, None, lines)],
        "occurrenceCount": group.count,
        "partialFingerprints": {"sentence/v1": f"{group.rule.id}:{group.where}:{group.sentence}"},
    }
    if places[1:]:
        result["relatedLocations"] = places[1:]
    if reason:
        result["suppressions"] = [{"kind": "external", "justification": reason}]
    return result


def _message(group: Group) -> str:
    kinds = ", ".join(dict.fromkeys(operation.type for operation in group.operations))
    subject = f"{group.count} × {kinds}: " if group.operations else ""
    return f"{subject}{group.sentence}; {group.rule.remedy}"


def _location(path: str, where: str, operation: Operation | None, lines: Lines) -> dict[str, Any]:
    file = f"{path}/model.mil" if lines else path
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(Path(file).as_posix())}}
    if lines:
        physical["region"] = {"startLine": lines.get(operation.result.name, 1) if operation else 1}
    name = "/".join(part for part in (where, f"{operation.block}{operation.name}" if operation else "") if part)
    logical = {"fullyQualifiedName": name or "model", "kind": "member" if operation else "module"}
    return {"physicalLocation": physical, "logicalLocations": [logical]}


def source_lines(path: Path) -> Lines:
    """Return the line of `model.mil` that makes each value; nothing for what has no such text."""
    source = path / "model.mil"
    if path.suffix != ".mlmodelc" or not source.is_file():
        return {}
    found: dict[str, int] = {}
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = _RESULT.search(line)
        if match:
            found[match[1]] = number
    return found
