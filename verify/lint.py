"""Which operations would leave the Neural Engine, and what would fail or lose precision, as far as a program tells.

The rules, their sources and remedies are in docs/lint.md; by hand: `python -m verify lint PATH`. A rule says what
others saw on devices: a share of operations here is what no rule takes off the Neural Engine, not what runs there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.types import Measurement, Subject

MEASURES = {
    "errors": "findings",
    "warnings": "findings",
    "neural_engine_share": "share of operations",
    "crossings": "crossings",
    "casts": "operations",
    "fp32_share": "share of operations",
}
NEEDS = ("package",)


@dataclass(frozen=True)
class Options:
    """What a variant may set: rules that do not count and rules whose findings are errors, each with the reason."""

    waive: dict = field(default_factory=dict)
    require: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        from verify.linting.table import unknown

        for name, chosen in (("waive", self.waive), ("require", self.require)):
            for sentence in unknown(chosen):
                raise ValueError(f"{name}: {sentence}")
            for rule, reason in chosen.items():
                if not isinstance(reason, str) or not reason.strip():
                    raise ValueError(f"{name}.{rule}: expected the reason, found {reason!r}")


def measure(subject: Subject) -> list[Measurement]:
    """Return how much the rules found, the shares of operations, and the findings as detail of the errors."""
    package = subject.package
    if package is None or package.suffix != ".mlpackage":
        return [Measurement(name, None, unit, "not a Core ML program") for name, unit in MEASURES.items()]
    from mil.program import load
    from verify.linting.document import as_json
    from verify.linting.lint import Choices, groups, lint
    from verify.linting.text import totals

    options = subject.options or Options()
    report = lint(load(package), Choices(options.waive, options.require))
    functions = report.functions
    detail = {name: found for name, found in as_json("", report).items() if name != "path"}
    errors = "; ".join(f"{g.rule.id}: {g.sentence}" for g in groups(report.findings) if g.level == "error")
    values = {
        "errors": (float(report.count("error")), errors or totals(report), detail),
        "warnings": (float(report.count("warning")), totals(report), {}),
        "neural_engine_share": (report.neural_engine_share, "what no rule takes off it; not measured on a device", {}),
        "crossings": (float(sum(function.crossings for function in functions)), "", {}),
        "casts": (float(sum(function.casts for function in functions)), "", {}),
        "fp32_share": (report.share(sum(function.full for function in functions)), "", {}),
    }
    return [_measurement(name, *values[name]) for name in MEASURES]


def _measurement(name: str, value: float | None, note: str, detail: Mapping[str, Any]) -> Measurement:
    return Measurement(name, value, MEASURES[name], note, detail)
