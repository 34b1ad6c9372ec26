"""What is wrong with a model, without running it: sentences, of which only those that are new in a release count."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mil.bundle import read_bundle
from mil.check_bundle import FAIL, check_bundle
from mil.errors import MilError
from mil.package import read_package
from verify import alias
from verify.contracts.findings import findings
from verify.contracts.terms import contracts, terms_for
from verify.linting.lint import Group, groups, lint
from verify.releases.expected import terms_of
from verify.releases.models import Opened
from verify.releases.rows import Limits, Row, counted

COUNTING = {"never": (), "error": ("error",), "warning": ("error", "warning")}


Look = Callable[[Opened], Iterator[str]]


def found(name: str, old: Opened | None, new: Opened, limits: Limits) -> Iterator[Row]:
    """Yield the rows of every check that reads a model; where there is no old one, everything is new."""
    looks: dict[str, Look] = {
        "alias": _alias,
        "contract": _contract,
        "interface": partial(_interface, old),
        "bundle": _bundle,
    }
    for check, look in looks.items():
        yield counted(name, check, _all_of(look, old), _all_of(look, new))
    before, after = (_lint(each) for each in (old, new))
    for level in ("error", "warning"):
        row = counted(name, f"lint {level}s", _of_level(before, level), _of_level(after, level))
        yield row if level in COUNTING[limits.lint] else replace(row, limit="", outcome=None)


def _all_of(look: Look, model: Opened | None) -> set[str]:
    if model is None:
        return set()
    try:
        return set(look(model))
    except MilError as error:  # of the file that is not loaded: the other one could be read
        return {f"cannot be read: {error}"}


def _alias(opened: Opened) -> Iterator[str]:
    for path in opened.model.files:
        yield from alias.findings((read_bundle if path.suffix == ".mlmodelc" else read_package)(path).spec)


def _contract(opened: Opened) -> Iterator[str]:
    """Yield what the contracts of this project find, for models of a name that one of them has."""
    for terms in terms_for(Path(opened.model.name).name, contracts()):
        for path in opened.model.files:
            yield from (f"{terms.consumer}: {each.kind}: {each.sentence}" for each in findings(path, terms, None))


def _bundle(opened: Opened) -> Iterator[str]:
    """Yield which checks of a bundle fail, against itself and against the package beside it."""
    bundle, package = opened.model.bundle, opened.model.package
    if bundle is not None:
        yield from (f"{check.name} fails" for check in check_bundle(bundle, package) if check.outcome == FAIL)


def _interface(old: Opened | None, opened: Opened) -> Iterator[str]:
    """Yield what would fail an app that was written for the old model; aliases have a row of their own."""
    if old is None:
        return
    terms = terms_of(old.model.loaded)
    for path in opened.model.files:
        yield from (f"{each.kind}: {each.sentence}" for each in findings(path, terms, None) if each.kind != "alias")
    for function in set(old.program.functions) - set(opened.program.functions):
        yield f"name: function `{function}` is gone"


def _lint(opened: Opened | None) -> tuple[Group, ...]:
    return () if opened is None else tuple(groups(lint(opened.program).findings))


def _of_level(found: Sequence[Group], level: str) -> set[str]:
    return {
        f"{group.rule.id}: {f'{group.where}: ' if group.where else ''}{group.sentence}"
        for group in found
        if group.level == level
    }
