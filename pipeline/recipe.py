"""A recipe is everything that decides the bytes of a step's result; its hash is the step's identity."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any


def canonical(recipe: object) -> str:
    """Return the one JSON text of a recipe: sorted keys, no spaces, dataclasses as mappings."""
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"), default=_plain)


def key(recipe: object) -> str:
    """Return the sha256 of the canonical recipe, in hex."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()


def differences(old: object, new: object, path: str = "") -> Iterator[str]:
    """Yield what changed between two recipes, one line each, such as `options.nbits: 8 -> 6`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot stand in a recipe")


def _short(value: object) -> str:
    text = "absent" if value is None else canonical(value).strip('"')
    return text if len(text) <= 72 else f"{text[:12]}…"
