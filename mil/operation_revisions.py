"""What metadata.json's histogram calls an operation; the facts are in operation_revisions.toml."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mil.grammar import OPSETS

_TABLE = Path(__file__).with_name("operation_revisions.toml")
_ORDER = [opset.text for opset in OPSETS]
_FIRST = _ORDER[0]
_INFERRED = "inferred"


@dataclass(frozen=True)
class OperationName:
    """An operation's name in the histogram, and how far to trust it.

    mark   "seen" or "read" (observed), "inferred", or "no row" where the table says nothing
    """

    text: str
    mark: str


@dataclass(frozen=True)
class _Row:
    target: str
    revision: str
    mark: str


def operation_name(operation: str, opset: str) -> OperationName:
    """Return the name of an operation in a program of an operation set (`ios16`).

    `Ios16.sliceByIndex` where ios16 is the operation set that last revised it; `SliceByIndex` where that is the first.
    """
    revision, mark = _revision(operation, opset)
    words = operation.split("_")
    if revision == _FIRST:
        return OperationName("".join(map(_capitalised, words)), mark)
    return OperationName(f"{_capitalised(revision)}.{words[0]}{''.join(map(_capitalised, words[1:]))}", mark)


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]


def _revision(operation: str, opset: str) -> tuple[str, str]:
    if opset == _FIRST:
        return _FIRST, "seen"
    rows = _rows().get(operation, [])
    # A row of this very operation set decides. So does one of a later set whose revision is no newer than this set.
    # A row of an earlier set says only that the revision is that or newer.
    exact = [row for row in rows if row.target == opset]
    later = [row for row in rows if _age(row.revision) <= _age(opset) < _age(row.target)]
    earlier = [row for row in rows if _age(row.target) < _age(opset)]
    for row in sorted(exact, key=_trust) + sorted(later, key=_trust):
        return row.revision, row.mark
    for row in sorted(earlier, key=lambda row: -_age(row.target)):
        return row.revision, _INFERRED
    return _FIRST, "no row"


def _age(opset: str) -> int:
    return _ORDER.index(opset)


def _trust(row: _Row) -> bool:
    return row.mark == _INFERRED


@cache
def _rows() -> dict[str, list[_Row]]:
    rows: dict[str, list[_Row]] = {}
    for sample in tomllib.loads(_TABLE.read_text())["sample"]:
        for revision in _ORDER:
            for operation in sample.get(revision, []):
                rows.setdefault(operation, []).append(_Row(sample["target"], revision, sample["mark"]))
    return rows
