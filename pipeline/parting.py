"""Where an artifact that is too far from upstream parts from the program that it was made of: operation by operation.

The ladder says at which step an error came in; for the last one, precision and passes, this says at which operation.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import plugins, steps
from pipeline.code import code_digest, package_digest
from pipeline.types import Arrays, Artifact, CheckResult, Step, Variant

ABOVE = ("rewrite", "convert")  # what differs before there is an artifact


def with_parting(
    variant: Variant,
    results: Sequence[CheckResult],
    state: Artifact,
    package: Artifact,
    audio: steps.Audio,
    take: Callable[[Step], Artifact],
) -> list[CheckResult]:
    """Return the results; those that failed for what the artifact puts out say at which operation it parts.

    state     the weights that the artifact was converted with
    package   the artifact after all passes
    """
    failed = [result for result in results if _is_of_outputs(result)]
    if not failed or not hasattr(plugins.format_(variant.format), "parting"):
        return list(results)
    window = next((result.detail["window"] for result in failed if "window" in result.detail), "")
    converted = take(steps.convert(variant, state, variant.convert))
    found = take(_step(variant, converted, package, audio, window))
    sentence = json.loads((found.path / "parting.json").read_text())
    return [replace(each, note=f"{each.note}; {sentence}") if each in failed else each for each in results]


def _is_of_outputs(result: CheckResult) -> bool:
    check, _, name = result.name.partition(".")
    return result.outcome == "fail" and "outputs" in plugins.check(check).NEEDS and name not in ABOVE


def _step(variant: Variant, converted: Artifact, package: Artifact, audio: steps.Audio, window: str) -> Step:
    target = plugins.format_(variant.format)
    assert hasattr(target, "parting"), "it was asked before"
    recipe = {
        "step": "parting",
        "programs": [converted.digest, package.digest],
        "examples": steps.examples_recipe(variant, audio),
        "window": window,
        "code": [code_digest(target.parting, first_call), package_digest("mil/ops")],
    }

    def run(folder: Path) -> None:
        paths = (steps.artifact_path(artifact.path, variant) for artifact in (converted, package))
        sentence = target.parting(*paths, first_call(variant, audio, window))
        (folder / "parting.json").write_text(json.dumps(sentence))

    return Step("parting", recipe, run, (converted, package))


class _CalledError(Exception):
    """The inputs of a call, which ends what made it."""

    def __init__(self, inputs: Arrays) -> None:
        self.inputs = inputs


def first_call(variant: Variant, audio: steps.Audio, window: str) -> Arrays:
    """Return what a network is first called with, on the example that has this window, or on the first example."""
    examples = steps.examples(variant, audio)
    chosen = next(examples)
    if window not in chosen.name.split(","):
        chosen = next((example for example in examples if window in example.name.split(",")), chosen)

    def stop(inputs: Arrays) -> Arrays:
        raise _CalledError(inputs)

    try:
        steps.driven(variant, stop)(chosen.inputs)
    except _CalledError as called:
        return called.inputs
    raise AssertionError(f"{variant.network} made no call of {chosen.name}")
