"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mil.program import Program
from verify.linting.scope import Operation, Scope

# E fails to load or to compile, W leaves the Neural Engine or is slow, N loses precision, I is good to know.
Severity = Literal["E", "W", "N", "I"]
Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

# measured: reproduced by us; documented: by Apple or in coremltools' documentation; confirmed: by a maintainer, or
# by several who measured it; reported: by one; disputed: reports contradict each other; inferred: from a relative.
Confidence = Literal["measured", "documented", "confirmed", "reported", "disputed", "inferred"]


@dataclass(frozen=True)
class Hit:
    """A place that a rule found, and why; operations that break a rule alike have the same sentence.

    operation   None where it is the function, or the model, as a whole
    """

    sentence: str
    operation: Operation | None = None


@dataclass(frozen=True)
class Rule:
    """One rule.

    id           as in docs/lint.md; "P2-epsilon" is a part of the rule P2
    only         the device, compute unit or system that the severity is about; empty for all of them
    leaves       whether what it finds does not run on the Neural Engine; if no operation is named, none does
    function     looks at one function, and `model` at the whole program; a rule has one of them
    undecidable  why a program alone does not tell; such a rule has neither
    """

    id: str
    title: str
    severity: Severity
    confidence: Confidence
    source: str
    remedy: str
    only: str = ""
    leaves: bool = False
    function: Callable[[Scope], Iterable[Hit]] | None = None
    model: Callable[[Program], Iterable[Hit]] | None = None
    undecidable: str = ""

    @property
    def level(self) -> Level:
        """How a finding counts: what fails on some devices only is a warning."""
        if self.severity == "E":
            return "warning" if self.only else "error"
        return "note" if self.severity == "I" else "warning"


@dataclass(frozen=True)
class Finding:
    """A hit with its rule and the function it is in; `where` is empty for a hit in the model as a whole."""

    rule: Rule
    level: Level
    where: str
    hit: Hit

    @property
    def key(self) -> tuple[str, str, str]:
        """What findings that are the same, but for the operation, have in common."""
        return self.rule.id, self.where, self.hit.sentence
