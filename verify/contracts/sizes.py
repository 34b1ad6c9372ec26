"""The little language of shapes in contracts: sizes, sums of products of sizes, and ranges."""

import math
import re
from collections.abc import Mapping

Bounds = tuple[int, int]

ANY, REST = "?", "..."
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SUM = re.compile(r"\w+( *[*+] *\w+)*")


def axis_text(axis: object) -> str:
    """Return an entry of a shape as text; raises ValueError for what is no entry."""
    text = str(axis)
    if isinstance(axis, bool) or not (text in (ANY, REST) or _RANGE.fullmatch(text) or _SUM.fullmatch(text)):
        raise ValueError(f'expected a size such as 160000, chunk + right, 1..32 or "?", found {axis!r}')
    return text


def names_in(axis: str) -> set[str]:
    """Return the names of the sizes that an entry is made of."""
    return {word for word in re.findall(r"\w+", axis) if not word.isdigit()}


def bounds(axis: str, sizes: Mapping[str, int]) -> Bounds | None:
    """Return the smallest and largest length that an entry asks for; None for any, and where a size is not known."""
    if choice := _RANGE.fullmatch(axis):
        return int(choice[1]), int(choice[2])
    if axis == ANY or not names_in(axis) <= set(sizes):
        return None
    total = sum(math.prod(_number(factor, sizes) for factor in term.split("*")) for term in axis.split("+"))
    return total, total


def _number(word: str, sizes: Mapping[str, int]) -> int:
    word = word.strip()
    return int(word) if word.isdigit() else sizes[word]
