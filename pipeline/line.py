"""The straight line: one variant, from its weights to a verified folder of files.

    weights -> convert -> optimize* -> label -> compile -> verify -> assemble

Every step is asked of the store, which answers at once if anybody has done it before. The schedule is the order of
the statements in `build`.
"""

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import elsewhere, plugins, references, steps, weights
from pipeline.assemble import assemble, is_assembled
from pipeline.manifest import manifest
from pipeline.parting import with_parting
from pipeline.recipe import key
from pipeline.store import CorruptedError, MissingError, Store
from pipeline.types import Artifact, CheckResult, Step, Subject, Taken, Variant
from pipeline.verdict import judge

STAGES = ("weights", "convert", "optimize", "label", "compile", "verify", "assemble")
FUNCTION = "function "  # begins what a function's artifact is called where a check is shown it
NO_RECORDINGS = "no recordings to measure on; give --audio DIR"


@dataclass(frozen=True)
class Settings:
    """What one build shares among its variants.

    out          folder of the artifacts; the store is `.store` below it
    weights      how weights may be had, and the folder that is searched first
    audio        what checks measure on
    calibration  what passes calibrate on: fixed by the matrix, so that measuring elsewhere changes no artifact
    until        the stage after which a variant stops
    results_out  where measurements are left for other machines
    """

    out: Path
    weights: weights.Mode
    weights_dir: Path | None
    audio: steps.Audio
    calibration: steps.Audio
    compiler: str
    until: str = "assemble"
    results_out: Path | None = None

    @property
    def store(self) -> Path:
        return self.out / ".store"


@dataclass(frozen=True)
class Built:
    """What became of a variant."""

    variant: Variant
    weights: weights.Source
    results: tuple[CheckResult, ...]
    taken: tuple[Taken, ...]
    folder: Path | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Made:
    """What there is to verify of a variant.

    plain    the artifact before it was labelled, which computes the same
    bundle   its compiled form, for formats that have one
    beside   files that stand beside it, for networks that have any
    parts    what its functions were made of, by their names
    """

    plain: Artifact
    package: Artifact
    bundle: Artifact | None
    beside: Artifact | None
    parts: Mapping[str, Artifact]


class _Stop(Exception):
    """The stage after which the build was told to stop is done."""


class _Walk:
    """Takes the steps of one variant from a store, and remembers which."""

    def __init__(self, store: Store, until: str) -> None:
        self.store, self.until, self.stage = store, until, "weights"
        self.taken: list[Taken] = []

    def take(self, step: Step) -> Artifact:
        started = time.perf_counter()
        there = self.store.find(step)
        artifact = there or self.store.get(step)
        seconds = None if there else time.perf_counter() - started
        self.taken.append(Taken(self.stage, step.name, key(step.recipe), seconds))
        return artifact

    def enter(self, stage: str) -> None:
        if STAGES.index(stage) > STAGES.index(self.until):
            raise _Stop
        self.stage = stage


def build(variant: Variant, settings: Settings, store: Store) -> Built:
    """Take a variant down the line.

    Raises MissingError if the store only looks and a step is missing; QuernError or MilError for what is wrong with
    the inputs. A stored result that turns out to be altered is dropped and made again.
    """
    for _ in range(3):
        try:
            return _build(variant, settings, store)
        except CorruptedError:
            continue
    return _build(variant, settings, store)


def _build(variant: Variant, settings: Settings, store: Store) -> Built:
    source = weights.find(variant.checkpoint, settings.weights, settings.weights_dir)
    walk = _Walk(store, settings.until)
    results: list[CheckResult] = []
    folder, facts = None, {}
    try:
        state = steps.state(variant, source, walk.take)
        walk.enter("convert")
        beside = _beside(variant, state, walk)
        found = [_package(part, settings, store, walk, source, state) for part in variant.functions.values()]
        parts = dict(zip(variant.functions, (package for _, package, _ in found), strict=True))
        passed: list[Any] = []
        if parts:
            plain = package = walk.take(steps.merge(variant, parts))
        else:
            plain, package, passed = _package(variant, settings, store, walk, source, state)
        walk.enter("compile")
        bundle = _compile(variant, settings, walk, package)
        made = _Made(plain, package, bundle, beside, parts)
        walk.enter("verify")
        results = _verify(variant, settings, walk, source, state, made)
        walk.enter("assemble")
        facts = manifest(variant, source, walk.taken, passed, package, bundle, beside, settings.compiler)
        folder = settings.out / variant.id
        if not is_assembled(folder, facts, results):
            if not store.builds:
                raise MissingError(Step("assemble", {}, lambda folder: None))
            assemble(folder, variant, package, bundle, beside, facts, results, source, walk.taken)
    except _Stop:
        pass
    return Built(variant, source, tuple(results), tuple(walk.taken), folder, facts)


def _package(
    variant: Variant, settings: Settings, store: Store, walk: _Walk, source: weights.Source, state: Artifact
) -> tuple[Artifact, Artifact, list[Any]]:
    """Return the converted and optimized artifact, before and after it is labelled, and what each pass decided."""
    walk.enter("convert")
    package = walk.take(steps.convert(variant, state, variant.convert))
    walk.enter("optimize")
    passed = []
    for chosen in variant.optimize:
        package = walk.take(steps.optimize(variant, chosen, package, store, settings.calibration))
        passed.append(steps.decisions(package))
    walk.enter("label")
    return package, walk.take(steps.label(variant, package, source.kind)), passed


def _beside(variant: Variant, state: Artifact, walk: _Walk) -> Artifact | None:
    step = steps.sidecars(variant, state)
    return walk.take(step) if step else None


def _compile(variant: Variant, settings: Settings, walk: _Walk, package: Artifact) -> Artifact | None:
    if not plugins.format_(variant.format).compiler(settings.compiler):
        return None
    return walk.take(steps.compile_(variant, package, settings.compiler))


def _verify(
    variant: Variant,
    settings: Settings,
    walk: _Walk,
    source: weights.Source,
    state: Artifact,
    made: _Made,
) -> list[CheckResult]:
    rungs: dict[str, Artifact | Path | str] = {}
    if any("outputs" in plugins.check(name).NEEDS for name in variant.checks):
        rungs = _ladder(variant, settings, walk, state, made.plain)
    results: list[CheckResult] = []
    for name in variant.checks:
        shown = _shown(name, made)
        step = _check_step(variant, name, settings, source, shown, rungs)
        found = steps.measurements(walk.take(step))
        if settings.results_out:
            elsewhere.keep(settings.results_out, variant.id, name, shown, found)
        found = elsewhere.with_results(name, shown, found)
        results += judge(variant, name, found, source.kind != "synthetic")
    if not rungs or not settings.audio.recordings or all(result.outcome != "fail" for result in results):
        return results
    audio = steps.with_recorded(variant, state, settings.audio, walk.take)
    return with_parting(variant, results, state, made.plain, audio, walk.take)


def _ladder(
    variant: Variant, settings: Settings, walk: _Walk, state: Artifact, package: Artifact
) -> dict[str, Artifact | Path | str]:
    """Run every rung of the ladder on the recordings, or say why it was not run."""
    if not settings.audio.recordings:
        return dict.fromkeys(("upstream", "network", "float32", "declared"), NO_RECORDINGS)
    audio = steps.with_recorded(variant, state, settings.audio, walk.take)
    reference = references.path(variant, state, audio)
    declared = walk.take(steps.program_outputs(variant, package, "declared", audio))
    exact = declared if steps.is_exact(variant) else walk.take(steps.exact_outputs(variant, state, audio))
    return {
        "upstream": reference if reference.exists() else references.ABSENT,
        "network": walk.take(steps.network_outputs(variant, state, audio)),
        "float32": exact,
        "declared": declared,
    }


def _shown(name: str, made: _Made) -> dict[str, Artifact]:
    """Return the artifacts that a check asks to look at."""
    needs = plugins.check(name).NEEDS
    shown = {"package": made.package} if "package" in needs else {}
    if "bundle" in needs and made.bundle:
        shown["bundle"] = made.bundle
    if "sidecars" in needs and made.beside:
        shown["sidecars"] = made.beside
    if "functions" in needs:
        shown |= {f"{FUNCTION}{part}": artifact for part, artifact in made.parts.items()}
    return shown


def _check_step(
    variant: Variant,
    name: str,
    settings: Settings,
    source: weights.Source,
    shown: Mapping[str, Artifact],
    rungs: Mapping[str, Artifact | Path | str],
) -> Step:
    """Show a check what it asks for, and nothing else, so that it is measured again only when that changes."""
    network, needs = plugins.network(variant.network), plugins.check(name).NEEDS
    if "outputs" not in needs:
        rungs = {}
    recordings = settings.audio.recordings if "recordings" in needs else ()
    options = variant.check_options.get(name)
    subject = Subject(
        inputs=network.inputs(variant.form),
        outputs=network.outputs(variant.form),
        package=steps.artifact_path(shown["package"].path, variant) if "package" in shown else None,
        bundle=steps.bundle_path(shown["bundle"].path, variant) if "bundle" in shown else None,
        functions={
            what.removeprefix(FUNCTION): steps.artifact_path(artifact.path, variant)
            for what, artifact in shown.items()
            if what.startswith(FUNCTION)
        },
        sidecars=shown["sidecars"].path if "sidecars" in shown else None,
        rungs={
            rung: found.path / steps.OUTPUTS_FILE if isinstance(found, Artifact) else found
            for rung, found in rungs.items()
        },
        recordings=recordings,
        weights=source.kind,
        options=options,
    )
    facts: dict[str, Any] = (
        {"system": platform.system()}
        | {what: artifact.digest for what, artifact in shown.items()}
        | {rung: found.digest if isinstance(found, Artifact) else str(found) for rung, found in rungs.items()}
    )
    if options is not None:
        facts |= {"options": asdict(options)}
    if recordings:
        facts |= {"weights": source.kind} | steps.labels_recipe(recordings)
    read = [*shown.values(), *(found for found in rungs.values() if isinstance(found, Artifact))]
    return steps.check(name, subject, read, facts)
