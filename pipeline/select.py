"""Which of the declared variants to build: by glob, and by the width of their palettes."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pipeline import plugins
from pipeline.types import Pass, QuernError, Variant

_PALETTES = ("palettize", "mixed_palette")


def by_patterns(variants: Sequence[Variant], patterns: Sequence[str]) -> list[Variant]:
    """Return the variants whose id matches any pattern; without patterns, all but those on request.

    Raises QuernError for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(variant.id, pattern) for variant in variants):
            near = difflib.get_close_matches(pattern, [variant.id for variant in variants], n=1)
            hint = f"did you mean '{near[0]}'?" if near else "--list shows what there is"
            raise QuernError(f"no variant matches '{pattern}'; {hint}")
    if not patterns:
        return [variant for variant in variants if not variant.on_request]
    return [variant for variant in variants if any(fnmatchcase(variant.id, pattern) for pattern in patterns)]


def require_installed(variants: Sequence[Variant], patterns: Sequence[str]) -> None:
    """Raise QuernError for a pattern that asks for nothing but variants whose format is not installed here."""
    for pattern in patterns:
        matched = [variant for variant in variants if fnmatchcase(variant.id, pattern)]
        needed = {plugins.format_(variant.format).missing(): variant.format for variant in matched}
        if matched and "" not in needed:
            means = "; ".join(f"{command} (for {name})" for command, name in sorted(needed.items()))
            raise QuernError(f"'{pattern}': not installed; run: {means}")


def by_width(variants: Sequence[Variant], nbits: str | None) -> list[Variant]:
    """Return the variants whose palettes are `nbits` wide; "0" means those without a palette, None means all.

    A width that palettes can have but that nobody declared is built from the declared palettized variants, without
    their limits on parity, which were set for other widths. Raises QuernError for a width that no palette can have.
    """
    if nbits is None or nbits == "":
        return list(variants)
    if nbits == "0":
        return [variant for variant in variants if not any(each.name in _PALETTES for each in variant.optimize)]
    declared = [variant for variant in variants if str(width(variant)) == nbits]
    return declared or _derived(variants, nbits)


def by_shard(variants: Sequence[Variant], shard: tuple[int, int] | None) -> list[Variant]:
    """Return the I-th of N shares, (I, N) counted from 1, or all; neighbours, which share steps, stay together."""
    index, count = shard or (1, 1)
    return list(variants)[len(variants) * (index - 1) // count : len(variants) * index // count]


def width(variant: Variant) -> int | None:
    """Return the width of a variant's palettes in bits, or None if it has none."""
    return next((each.options.nbits for each in variant.optimize if each.name == "palettize"), None)


def _derived(variants: Sequence[Variant], nbits: str) -> list[Variant]:
    options = plugins.pass_("palettize").Options
    try:
        wanted = Pass("palettize", options(nbits=int(nbits)))
    except ValueError as error:
        raise QuernError(f"PALETTIZE_NBITS={nbits}: {error}") from None
    found = {variant.id: variant for variant in (_at_width(v, wanted) for v in variants if width(v) is not None)}
    return list(found.values())


def _at_width(variant: Variant, wanted: Pass) -> Variant:
    name = re.sub(rf"\bw{width(variant)}\b", f"w{wanted.options.nbits}", variant.name)
    passes = tuple(wanted if each.name == "palettize" else each for each in variant.optimize)
    limits = tuple(limit for limit in variant.limits if not limit.measurement.startswith("parity."))
    return dataclasses.replace(variant, name=name, optimize=passes, limits=limits, publish=None)
