"""What the command line can be asked for: to build, to explain, to make references, to check and prune the store."""

import contextlib
import fcntl
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from pipeline import references, report, schedule, steps, weights
from pipeline.config import Matrix
from pipeline.line import NO_RECORDINGS, STAGES, Built, Settings
from pipeline.progress import Progress, progress
from pipeline.schedule import Ending, Failed
from pipeline.store import Store
from pipeline.types import EnvironmentTroubleError, Variant


def require_weights(variants: Sequence[Variant], settings: Settings) -> Iterator[str]:
    """Yield, for each checkpoint, which weights it will be built from; raises one error for all that cannot be had."""
    missing = []
    for variant in {variant.checkpoint.id: variant for variant in variants}.values():
        try:
            source = weights.find(variant.checkpoint, settings.weights, settings.weights_dir)
        except EnvironmentTroubleError as error:
            missing.append(str(error))
        else:
            if source.kind != "none":
                yield f"{variant.checkpoint.id}: {source.kind} weights: {source.origin}"
    if missing:
        raise EnvironmentTroubleError("\n".join(missing))


def build(variants: Sequence[Variant], settings: Settings, jobs: int, keep_going: bool, as_json: bool) -> int:
    """Build the variants, tell what became of them, and return the exit status."""
    screen = sys.stderr if as_json else sys.stdout
    settings.store.mkdir(parents=True, exist_ok=True)
    found: dict[str, Ending] = dict(schedule.not_installed(variants))
    installed = [variant for variant in variants if variant.id not in found]
    with _store_in_use(settings.store, fcntl.LOCK_SH), progress(screen) as shown:
        for absent in found.values():
            shown.done(absent)
        for origin in require_weights(installed, settings):
            shown.say(origin)
        found |= {o.variant.id: o for o in _outcomes(installed, settings, jobs, keep_going, shown)}
    outcomes = [found[variant.id] for variant in variants if variant.id in found]
    if settings.until == STAGES[-1]:
        report.write_index(settings.out)
    if as_json:
        print(report.document(outcomes))
    else:
        print("", *report.table(outcomes), "", *report.reasons(outcomes), sep="\n")
    return report.status(outcomes)


def make_references(variants: Sequence[Variant], settings: Settings) -> None:
    """Run upstream's own code for every selected variant and store its outputs, where they are not stored yet."""
    if not settings.audio.recordings:
        raise EnvironmentTroubleError(NO_RECORDINGS)
    store = Store(settings.store)
    with progress(sys.stdout) as shown:
        for variant in variants:
            source = weights.find(variant.checkpoint, settings.weights, settings.weights_dir)
            shown.step(variant.id, "upstream")
            state = steps.state(variant, source, store.get)
            audio = steps.with_recorded(variant, state, settings.audio, store.get)
            try:
                made = references.make(variant, state, audio)
            except ImportError as error:
                raise EnvironmentTroubleError(f"upstream is not installed ({error}); run `make references`") from None
            shown.finish(variant.id, "made" if made else "there already")


def check_store(settings: Settings) -> int:
    """Hash everything stored again, drop what was altered so that it is built anew, and return how much that was."""
    altered = list(Store(settings.store).check())
    for key in altered:
        print(f"{settings.store / key}: not what was stored; dropped, and will be built again", file=sys.stderr)
    return len(altered)


def prune(matrix: Matrix, settings: Settings) -> int:
    """Drop from the store what no declared variant needs, and return how many entries that was.

    Raises EnvironmentTroubleError while a build is using the store, and where a format is not installed: nobody knows
    then what its variants need.
    """
    absent = schedule.not_installed(matrix.variants)
    if absent:
        first = next(iter(absent.values()))
        raise EnvironmentTroubleError(f"{first.variant.id}: needs {first.command}; until then nothing is pruned")
    store = Store(settings.store)
    with _store_in_use(settings.store, fcntl.LOCK_EX | fcntl.LOCK_NB):
        wanted = {step.key for built in schedule.fresh(matrix.variants, settings).values() for step in built.taken}
        return len(store.prune(wanted))


def report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say that an error nobody foresaw is ours, and leave with the status that says so."""
    traceback.print_exception(kind, error, trace)
    print("This is a bug in Quern; please report it with the lines above.", file=sys.stderr, flush=True)
    os._exit(3)


def _outcomes(
    variants: Sequence[Variant], settings: Settings, jobs: int, keep_going: bool, shown: Progress
) -> Iterator[Built | Failed]:
    fresh = schedule.fresh(variants, settings)
    for built in fresh.values():
        shown.done(built, fresh=True)
        yield built
    waiting = [variant for variant in variants if variant.id not in fresh]
    for outcome in schedule.run(waiting, settings, jobs, keep_going, shown.step):
        shown.done(outcome)
        yield outcome


@contextlib.contextmanager
def _store_in_use(store: Path, how: int) -> Iterator[None]:
    """Hold the store: many builds may share it, but whoever drops entries must be alone."""
    with (store / ".in-use").open("w") as file:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            raise EnvironmentTroubleError(f"{store}: another build is using it; prune when it is done") from None
        yield
