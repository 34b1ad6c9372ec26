"""Build many variants: those that are up to date at once, the others one after the other or several at a time."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from mil.errors import MilError
from pipeline import plugins
from pipeline.line import Built, Settings, build
from pipeline.store import MissingError, Store
from pipeline.types import EnvironmentTroubleError, QuernError, Variant

Watch = Callable[[str, str], None]  # variant id, name of the step that begins


@dataclass(frozen=True)
class Failed:
    """A variant that could not be built: the sentence that says why, and the exit status it deserves."""

    variant: Variant
    reason: str
    status: int


@dataclass(frozen=True)
class NotInstalled:
    """A variant that is not run, for want of an optional dependency of its format: what to type."""

    variant: Variant
    command: str


Ending = Built | Failed | NotInstalled


def not_installed(variants: Sequence[Variant]) -> dict[str, NotInstalled]:
    """Return the variants whose format is not installed here, by variant id."""
    commands = {variant.id: (variant, plugins.format_(variant.format).missing()) for variant in variants}
    return {id_: NotInstalled(variant, command) for id_, (variant, command) in commands.items() if command}


def fresh(variants: Sequence[Variant], settings: Settings) -> dict[str, Built]:
    """Return what is up to date, by variant id, without building anything."""
    store = Store(settings.store, builds=False)
    found: dict[str, Built] = {}
    for variant in variants:
        try:
            found[variant.id] = build(variant, settings, store)
        except MissingError:
            continue
    return found


def run(
    variants: Sequence[Variant], settings: Settings, jobs: int, keep_going: bool, watch: Watch
) -> Iterator[Built | Failed]:
    """Build the variants and yield each as it is done; after a failure nothing new is begun unless `keep_going`."""
    if jobs == 1 or len(variants) < 2:
        yield from _one_by_one(variants, settings, keep_going, watch)
    else:
        yield from _side_by_side(variants, settings, min(jobs, len(variants)), keep_going, watch)


def _one_by_one(
    variants: Sequence[Variant], settings: Settings, keep_going: bool, watch: Watch
) -> Iterator[Built | Failed]:
    for variant in variants:
        outcome = _attempt(variant, settings, watch)
        yield outcome
        if isinstance(outcome, Failed) and not keep_going:
            return


def _side_by_side(
    variants: Sequence[Variant], settings: Settings, jobs: int, keep_going: bool, watch: Watch
) -> Iterator[Built | Failed]:
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with context.Manager() as manager, ProcessPoolExecutor(jobs, context, _begin_worker, (threads,)) as pool:
        news = manager.Queue()
        threading.Thread(target=_listen, args=(news, watch), daemon=True).start()
        futures = [pool.submit(_attempt_in_worker, variant, settings, news) for variant in variants]
        try:
            yield from _outcomes(futures, pool, keep_going)
        except BrokenProcessPool:
            raise EnvironmentTroubleError(
                "a worker process was killed, most likely for want of memory; try again with --jobs 1"
            ) from None
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()
            raise
        news.put(None)


def _outcomes(
    futures: Sequence[Future[Built | Failed]], pool: ProcessPoolExecutor, keep_going: bool
) -> Iterator[Built | Failed]:
    for future in as_completed(futures):
        if not future.cancelled():
            yield future.result()
            if isinstance(future.result(), Failed) and not keep_going:
                pool.shutdown(wait=False, cancel_futures=True)


def _attempt(variant: Variant, settings: Settings, watch: Watch) -> Built | Failed:
    try:
        return build(variant, settings, Store(settings.store, watch=lambda step: watch(variant.id, step)))
    except QuernError as error:
        return Failed(variant, str(error), error.status)
    except MilError as error:
        return Failed(variant, str(error), QuernError.status)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Failed(variant, f"{where}{error.strerror or error}", 4)


def _begin_worker(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported, which reads it once


def _attempt_in_worker(variant: Variant, settings: Settings, news: Any) -> Built | Failed:
    return _attempt(variant, settings, lambda name, step: news.put((name, step)))


def _listen(news: Any, watch: Watch) -> None:
    with contextlib.suppress(EOFError, ConnectionError):  # the build is over, and its channel with it
        while (item := news.get()) is not None:
            watch(*item)
