"""JSON as Apple's NSJSONSerialization writes it: the order of keys is that of an NSMutableDictionary.

Such a dictionary is a table with open addressing and linear probing. A key starts at its CFString hash modulo the size
of the table, which is a prime; the table grows after the insertion that makes it hold more than it should, and moves
its keys in the order of their slots. Sizes, thresholds and hash reproduce every sample; see docs/mlmodelc.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SIZES = (3, 7, 13, 23, 41, 71, 127, 191, 251, 383, 631, 1087, 1723, 2803, 4523)
_FULL = (3, 6, 11, 19, 31, 52, 85, 118, 155, 237, 390, 672, 1065, 1732, 2795)
_MASK = (1 << 64) - 1
_HASHED_WHOLE = 96
_THIRD = 32
_ESCAPES = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def string_hash(text: str) -> int:
    """Return CFString's hash: a polynomial over UTF-16 units, of the first, middle and last 32 beyond 96 units."""
    encoded = text.encode("utf-16-le")
    units = [int.from_bytes(encoded[i : i + 2], "little") for i in range(0, len(encoded), 2)]
    length = total = len(units)
    for part in _hashed_parts(units):
        whole = len(part) // 4 * 4
        for i in range(0, whole, 4):
            a, b, c, d = part[i : i + 4]
            # 67503105 is 257**4 modulo 2**32, though the hash has 64 bits.
            total = (total * 67503105 + a * 257**3 + b * 257**2 + c * 257 + d) & _MASK
        for unit in part[whole:]:
            total = (total * 257 + unit) & _MASK
    return (total + (total << (length & 31))) & _MASK


def _hashed_parts(units: list[int]) -> list[list[int]]:
    if len(units) <= _HASHED_WHOLE:
        return [units]
    middle = len(units) // 2 - _THIRD // 2
    return [units[:_THIRD], units[middle : middle + _THIRD], units[-_THIRD:]]


def dictionary_order(keys: Iterable[str]) -> list[str]:
    """Return keys in the order in which an NSMutableDictionary lists them, having got them in the order given."""
    step, slots = 0, _table(0)
    for count, key in enumerate(dict.fromkeys(keys), start=1):
        if count > len(slots):
            step, slots = step + 1, _moved(slots, step + 1)
        _place(slots, key)
        if step < len(_FULL) and count > _FULL[step]:
            step, slots = step + 1, _moved(slots, step + 1)
    return [key for key in slots if key is not None]


def _table(step: int) -> list[str | None]:
    return [None] * (_SIZES[step] if step < len(_SIZES) else 2 * _SIZES[-1] * 2 ** (step - len(_SIZES)) + 1)


def _moved(slots: list[str | None], step: int) -> list[str | None]:
    larger = _table(step)
    for key in slots:
        if key is not None:
            _place(larger, key)
    return larger


def _place(slots: list[str | None], key: str) -> None:
    slot = string_hash(key) % len(slots)
    while slots[slot] is not None:
        slot = (slot + 1) % len(slots)
    slots[slot] = key


def to_json(value: Any, indent: int = 0) -> str:
    """Return a value as pretty-printed JSON without a newline at its end.

    value   strings, integers, and sequences and mappings of them; a mapping's order is that of insertion
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value)
    pad, inner = " " * indent, " " * (indent + 2)
    if isinstance(value, Mapping):
        lines = [f"{inner}{_quoted(key)} : {to_json(value[key], indent + 2)}" for key in dictionary_order(value)]
        return _enclosed("{", lines, "}", pad)
    assert isinstance(value, Sequence)
    return _enclosed("[", [inner + to_json(member, indent + 2) for member in value], "]", pad)


def _enclosed(opening: str, lines: list[str], closing: str, pad: str) -> str:
    content = ",\n".join(lines)
    return f"{opening}\n{content}\n{pad}{closing}"


def _quoted(text: str) -> str:
    escaped = (_ESCAPES.get(char) or (char if char >= " " else f"\\u{ord(char):04x}") for char in text)
    return f'"{"".join(escaped)}"'
