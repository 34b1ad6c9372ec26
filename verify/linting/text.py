"""A report for people: what leaves the Neural Engine and why, then what fails, then what loses precision."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from verify.linting.lint import Group, Report, Summary, groups
from verify.linting.rule import LEVELS, Rule

_MOST_NAMED = 3
_UNVERIFIED = "what may run on the Neural Engine need not: only a plan made on a Mac tells"

Section = tuple[str, list[Group]]


def heading(summary: Summary) -> str:
    """Return a function in one line."""
    staying = summary.operations - summary.leaving
    return (
        f"{summary.where} ({summary.opset}): {_count(summary.operations, 'operation')}: {staying} "
        f"({_percent(staying, summary.operations)}) may run on the Neural Engine, {summary.leaving} may not, "
        f"{_count(summary.crossings, 'crossing')}; {_percent(summary.full, summary.operations)} in single precision, "
        f"{_count(summary.casts, 'cast')}"
    )


def sections(report: Report) -> list[Section]:
    """Return the findings by what they mean, the worst first."""
    found = groups(report.findings)
    leaving = [group for group in found if group.rule.leaves]
    others = [group for group in found if not group.rule.leaves]
    made = [("leaves the Neural Engine", leaving)]
    made += [(f"{level}s", [group for group in others if group.level == level]) for level in LEVELS]
    return [(title, kept) for title, kept in made if kept]


def plain(path: str, report: Report, every: bool) -> Iterator[str]:
    """Yield the lines of a report; `every` names every operation."""
    yield f"{path}"
    yield from (f"  {heading(summary)}" for summary in report.functions)
    for title, found in sections(report):
        yield f"\n  {title}"
        for group in found:
            yield f"    {group.rule.id:<4} {_level(group)}{what(group, len(report.functions) > 1)}: {group.sentence}"
            if group.operations and (every or group.count <= _MOST_NAMED):
                yield f"         at {names(group, every)}"
            yield f"         → {group.rule.remedy}"
    yield from closing(report)


def closing(report: Report) -> Iterator[str]:
    """Yield what is waived, what could not be seen, and the totals."""
    for group in groups(report.waived):
        yield f"\n  waived {group.rule.id} ({group.count}): {report.choices.waive[group.rule.id]}"
    yield from (f"\n  note: {note}" for note in report.notes)
    yield f"\n  {totals(report)}; {_UNVERIFIED}"


def totals(report: Report) -> str:
    return ", ".join(_count(report.count(level), level) for level in LEVELS)


def what(group: Group, several: bool) -> str:
    """Return which operations a group is about: `lstm × 4`, `model1.main: conv × 3, relu`; or which function."""
    kinds = Counter(operation.type for operation in group.operations)
    listed = ", ".join(kind if count == 1 else f"{kind} × {count}" for kind, count in kinds.most_common())
    if not listed:
        return group.where or "the model"
    return f"{group.where}: {listed}" if several else listed


def names(group: Group, every: bool) -> str:
    """Return the names of a group's operations, with the blocks that hold them."""
    shown = group.operations if every else group.operations[:_MOST_NAMED]
    listed = ", ".join(f"{operation.block}{operation.name}" for operation in shown)
    return listed + (f" and {group.count - len(shown)} more" if group.count > len(shown) else "")


def tables(report: Report) -> Iterator[Any]:
    """Yield the sections as tables for a terminal."""
    from rich.table import Table

    for title, found in sections(report):
        table = Table(title=title, title_justify="left", title_style="bold", expand=True)
        table.add_column("rule", no_wrap=True)
        for column, ratio in (("operations", 4), ("why", 6), ("what to do", 6)):
            table.add_column(column, ratio=ratio, overflow="fold")
        for group in found:
            table.add_row(
                f"{group.rule.id} error" if group.level == "error" else group.rule.id,
                what(group, len(report.functions) > 1),
                group.sentence + _only(group.rule),
                group.rule.remedy,
            )
        yield table


def rule_table(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield the page of rules in Markdown."""
    yield from ("| rule | finds | severity | confidence | source | remedy |", "|---|---|---|---|---|---|")
    for rule in rules:
        yield f"| {rule.id} | {rule.title} | {severity(rule)} | {rule.confidence} | {rule.source} | {rule.remedy} |"


def severity(rule: Rule) -> str:
    """Return a rule's severity, with the devices that it is about: `E (GPU)`."""
    return f"{rule.severity} ({rule.only})" if rule.only else rule.severity


def _level(group: Group) -> str:
    return f"[{group.level}{_only(group.rule)}] " if group.rule.leaves or group.rule.only else ""


def _only(rule: Rule) -> str:
    return f" on {rule.only}" if rule.only else ""


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
