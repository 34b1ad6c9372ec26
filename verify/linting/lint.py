"""Every rule over every function of a program, and what follows from it all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mil.program import Program
from verify.linting.rule import Finding, Hit, Level, Rule
from verify.linting.rules.precision import is_full
from verify.linting.scope import Operation, Scope, absent_weights, scopes
from verify.linting.table import RULES


@dataclass(frozen=True)
class Choices:
    """Rules that do not count, and rules whose findings count as errors: id → the reason."""

    waive: Mapping[str, str] = field(default_factory=dict)
    require: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """One function in numbers; operations are those that run, so that neither constants nor their decoding count.

    leaving     how many a rule takes off the Neural Engine
    crossings   how often neighbouring operations part over that
    full        how many compute in single precision, casts left aside
    """

    where: str
    opset: str
    operations: int
    leaving: int
    crossings: int
    casts: int
    full: int


@dataclass(frozen=True)
class Report:
    """What the rules found.

    waived   findings of rules that were waived; they count for nothing
    notes    what could not be looked at, and waivers that nothing needed
    """

    functions: tuple[Summary, ...]
    findings: tuple[Finding, ...]
    waived: tuple[Finding, ...]
    choices: Choices
    notes: tuple[str, ...]

    def count(self, level: Level) -> int:
        """Return how many findings there are of a level; those that differ in their operation only count once."""
        return len({finding.key for finding in self.findings if finding.level == level})

    @property
    def operations(self) -> int:
        return sum(function.operations for function in self.functions)

    def share(self, count: int) -> float | None:
        """Return a number of operations as a share of all, None where there are none."""
        return count / self.operations if self.operations else None

    @property
    def neural_engine_share(self) -> float | None:
        """The share of operations that no rule, waived or not, takes off the Neural Engine."""
        return self.share(self.operations - sum(function.leaving for function in self.functions))


@dataclass(frozen=True)
class Group:
    """Findings that differ in their operation only, in the order of the program."""

    rule: Rule
    level: Level
    where: str
    sentence: str
    operations: tuple[Operation, ...]

    @property
    def count(self) -> int:
        return max(len(self.operations), 1)


def lint(program: Program, choices: Choices | None = None) -> Report:
    """Return what every rule finds in a program; raises MilError for types that MIL does not define."""
    choices = choices or Choices()
    functions = tuple(scopes(program))
    found = [*_of_model(program, choices), *(f for scope in functions for f in _of_function(scope, choices))]
    return Report(
        functions=tuple(_summary(scope, found) for scope in functions),
        findings=tuple(f for f in found if f.rule.id not in choices.waive),
        waived=tuple(f for f in found if f.rule.id in choices.waive),
        choices=choices,
        notes=tuple(_notes(program, found, choices)),
    )


def groups(findings: Sequence[Finding]) -> list[Group]:
    """Return findings that say the same together, by rule."""
    together: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        together.setdefault(finding.key, []).append(finding)
    made = [
        Group(
            same[0].rule,
            same[0].level,
            same[0].where,
            same[0].hit.sentence,
            tuple(f.hit.operation for f in same if f.hit.operation is not None),
        )
        for same in together.values()
    ]
    return sorted(made, key=lambda group: RULES.index(group.rule))


def _of_model(program: Program, choices: Choices) -> Iterator[Finding]:
    for rule in RULES:
        if rule.model is not None:
            yield from (_finding(rule, choices, "", hit) for hit in rule.model(program))


def _of_function(scope: Scope, choices: Choices) -> Iterator[Finding]:
    for rule in RULES:
        if rule.function is not None:
            yield from (_finding(rule, choices, scope.where, hit) for hit in rule.function(scope))


def _finding(rule: Rule, choices: Choices, where: str, hit: Hit) -> Finding:
    return Finding(rule, "error" if rule.id in choices.require else rule.level, where, hit)


def _summary(scope: Scope, found: Sequence[Finding]) -> Summary:
    leaving = _leaving(scope, found)
    apart = [operation in leaving for operation in scope.operations]
    return Summary(
        where=scope.where,
        opset=scope.opset.text,
        operations=len(apart),
        leaving=sum(apart),
        crossings=sum(one != other for one, other in pairwise(apart)),
        casts=sum(operation.type == "cast" for operation in scope.operations),
        full=sum(is_full(operation) for operation in scope.operations if operation.type != "cast"),
    )


def _leaving(scope: Scope, found: Sequence[Finding]) -> set[Operation]:
    hits = [finding.hit for finding in found if finding.rule.leaves and finding.where == scope.where]
    if any(hit.operation is None for hit in hits):
        return set(scope.operations)
    return {hit.operation for hit in hits if hit.operation is not None}


def _notes(program: Program, found: Sequence[Finding], choices: Choices) -> Iterator[str]:
    for name in absent_weights(program):
        yield f"{name} is not there: constants in it were not looked at"
    for id_ in choices.waive:
        if not any(finding.rule.id == id_ for finding in found):
            yield f"{id_} is waived and finds nothing; the waiver can go"
