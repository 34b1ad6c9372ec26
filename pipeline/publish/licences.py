"""The licences that are known, and whether what was made from a checkpoint under them may be passed on."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_suffix(".toml")
NONE = "none"


@dataclass(frozen=True)
class Licence:
    """One licence: its identifier in model cards, its text, and what it asks of those who pass a model on."""

    hub: str
    url: str
    redistributable: bool
    attribution: str


@cache
def known() -> Mapping[str, Licence]:
    """Return the licences of licences.toml, by SPDX identifier."""
    return {name: Licence(**fields) for name, fields in tomllib.loads(_TABLE.read_text()).items()}


def objection(licence: str, trained: bool) -> str:
    """Return why nothing under this licence is published, and the way out; "" where nothing stands in the way."""
    found = known().get(licence)
    if found is None:
        where = f"pipeline/publish/{_TABLE.name}"
        return f"the licence '{licence}' is not known; read it, and add it to {where} if it allows passing on"
    if not found.redistributable:
        return f"the licence '{licence}' forbids it: {found.attribution}; take `publish` out of its block"
    if licence == NONE and trained:
        return "it is made from trained weights and has no licence; name theirs under `checkpoints` in variants.yaml"
    return ""
