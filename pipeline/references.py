"""Upstream's own outputs, made once where upstream is installed and read by every build after.

A reference is a file named by what decides it: the weights, the examples, and the code that calls upstream.
"""

import os
from pathlib import Path

from pipeline import plugins, steps
from pipeline.code import ROOT, code_digest
from pipeline.recipe import key
from pipeline.tensors import read_tensors
from pipeline.types import Artifact, Variant

ABSENT = "no reference outputs; run `make references`"


def folder() -> Path:
    """Return where references are kept: QUERN_REFERENCES, or `references/` beside the code."""
    return Path(os.environ.get("QUERN_REFERENCES", ROOT / "references"))


def path(variant: Variant, state: Artifact, audio: steps.Audio) -> Path:
    """Return the file that holds upstream's outputs for these weights and examples, whether it exists or not."""
    recipe = {
        "weights": state.digest,
        "examples": steps.examples_recipe(variant, audio),
        "code": code_digest(*plugins.functions(variant.network, variant.form, "reference")),
    }
    return folder() / variant.network / f"{key(recipe)}.safetensors"


def make(variant: Variant, state: Artifact, audio: steps.Audio) -> bool:
    """Run upstream on every example and store its outputs; return False if they were there already.

    Raises ImportError where upstream's code is not installed.
    """
    destination = path(variant, state, audio)
    if destination.exists():
        return False
    runner = plugins.network(variant.network).reference(read_tensors(state.path / steps.WEIGHTS_FILE), variant.form)
    destination.parent.mkdir(parents=True, exist_ok=True)
    draft = destination.with_name(f".{destination.name}.{os.getpid()}")
    steps.write_outputs(variant, runner, audio, draft)
    draft.rename(destination)
    return True
