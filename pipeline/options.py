"""Build an options dataclass from what a user wrote in YAML, and say everything that is wrong with it, with paths."""

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class Complaints(list[str]):
    """What is wrong with a file: one sentence each, the path of the place first."""

    def add(self, path: str, sentence: str) -> None:
        self.append(f"{path}: {sentence}")

    def unknown(self, path: str, what: str, known: Iterable[str]) -> None:
        """Complain of a name that does not exist, suggesting the nearest that does."""
        near = difflib.get_close_matches(path.rsplit(".", 1)[-1], list(known), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(sorted(known)) or 'none'}"
        self.add(path, f"unknown {what}; {hint}")


def build(cls: type, written: object, path: str, complaints: Complaints) -> Any:
    """Return `cls` made from a mapping of options, or None after complaining of every option that does not fit."""
    if not isinstance(written, Mapping):
        complaints.add(path, f"expected a mapping of options, found {_name(written)}")
        return None
    before = len(complaints)
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    for name in written:
        if name not in known:
            complaints.unknown(f"{path}.{name}", "option", known)
    for name, field in known.items():
        if name not in written and field.default is MISSING and field.default_factory is MISSING:
            complaints.add(f"{path}.{name}", f"missing; expected {describe(hints[name])}")
    values = {
        name: convert(hints[name], value, f"{path}.{name}", complaints)
        for name, value in written.items()
        if name in known
    }
    if len(complaints) > before:
        return None
    try:
        return cls(**values)
    except ValueError as error:
        complaints.add(path, str(error))
        return None


def convert(hint: Any, value: object, path: str, complaints: Complaints) -> Any:
    """Return `value` as the type `hint` asks for, or None after complaining that it cannot be."""
    found = _fit_any(hint, value)
    if found is _NO_FIT:
        complaints.add(path, f"expected {describe(hint)}, found {_name(value)}")
        return None
    return found


def describe(hint: Any) -> str:
    """Return a type in the words of somebody who writes YAML."""
    return " or ".join(_describe_one(alternative) for alternative in _alternatives(hint))


_NO_FIT = object()
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    type(None): "nothing",
}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fit_any(hint: Any, value: object) -> Any:
    fits = (_fit(alternative, value) for alternative in _alternatives(hint))
    return next((found for found in fits if found is not _NO_FIT), _NO_FIT)


def _fit(hint: Any, value: object) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        return value if value in get_args(hint) and not isinstance(value, bool) else _NO_FIT
    if origin is tuple:
        return _fit_tuple(get_args(hint), value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) and hint is not bool:
        return _NO_FIT
    return value if isinstance(value, origin or hint) else _NO_FIT


def _fit_tuple(members: tuple[Any, ...], value: object) -> Any:
    if not isinstance(value, list | tuple):
        return _NO_FIT
    expected = members[:1] * len(value) if members[-1:] == (Ellipsis,) else members
    if len(expected) != len(value):
        return _NO_FIT
    found = tuple(_fit_any(hint, item) for hint, item in zip(expected, value, strict=True))
    return _NO_FIT if _NO_FIT in found else found


def _describe_one(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(str(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        members = get_args(hint)
        if members[-1] is Ellipsis:
            return f"a list, each {describe(members[0])}"
        return f"a list of {len(members)}, each {describe(members[0])}"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _name(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return f"{value!r}"
