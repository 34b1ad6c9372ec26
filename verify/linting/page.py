"""docs/lint.md, written from the table of rules."""

from verify.linting.table import RULES
from verify.linting.text import rule_table

_BEFORE = """# Lint rules

`python -m verify lint PATH…` reads packages, bundles and bare models, and says which operations would leave the Neural
Engine and why, what would fail to load, and where half precision loses what matters. Written by
`python -m verify lint --markdown`.

**Severity.** E fails to load, to compile or to run; W leaves the Neural Engine or is slow; N loses precision; I is good
to know. E counts as an error, unless it is about some devices only, which are named: then it is a warning, as W and N
are; I is a note.

**Confidence.** measured: reproduced; documented: by Apple or in coremltools' documentation; confirmed: by a maintainer,
or by several who measured it; reported: by one; disputed: reports contradict each other; inferred: from a relative.
Nothing here was run on Apple hardware by this project: a rule says what others saw, and only a plan made on a Mac says
where a program runs.

## Decided from the program
"""
_BETWEEN = """
## Not decided from the program
"""


def page() -> str:
    """Return docs/lint.md."""
    decided = [rule for rule in RULES if not rule.undecidable]
    lines = [_BEFORE, *rule_table(decided), _BETWEEN, "| rule | about | why not | source |", "|---|---|---|---|"]
    lines += [f"| {r.id} | {r.title} | {r.undecidable} | {r.source} |" for r in RULES if r.undecidable]
    return "\n".join(lines) + "\n"
