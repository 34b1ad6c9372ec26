"""All rules, in the order of their ids' families."""

from collections.abc import Iterable

from verify.linting.rule import Rule
from verify.linting.rules import aliasing, operations, precision, shapes, target, undecidable, weights

FAMILIES = "ADSOPQRT"
RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *aliasing.RULES,
            *shapes.RULES,
            *operations.RULES,
            *precision.RULES,
            *weights.RULES,
            *target.RULES,
            *undecidable.RULES,
        ),
        key=lambda rule: (FAMILIES.index(rule.id[0]), int(rule.id[1:].partition("-")[0]), rule.id),
    )
)
BY_ID = {rule.id: rule for rule in RULES}


def unknown(ids: Iterable[str]) -> list[str]:
    """Return a sentence for each id that is no rule's."""
    return [f"'{id_}' is no rule; there is {', '.join(BY_ID)}" for id_ in ids if id_ not in BY_ID]
