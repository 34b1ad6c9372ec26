"""Build many variants: those that are up to date at once, the others one after the other or several at a time."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.managers import SyncManager
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
    manager = SyncManager(ctx=context)
    manager.start(_end_with_parent)
    with manager, ProcessPoolExecutor(jobs, context, _begin_worker, (threads,)) as pool:
        news = manager.Queue()
        threading.Thread(target=_listen, args=(news, watch), daemon=True).start()
        try:
            yield from _outcomes(
                variants, jobs, lambda variant: pool.submit(_attempt_in_worker, variant, settings, news), keep_going
            )
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
    variants: Sequence[Variant],
    jobs: int,
    begin: Callable[[Variant], Future[Built | Failed]],
    keep_going: bool,
) -> Iterator[Built | Failed]:
    """Begin variants in their order, as many at a time as there are jobs, and yield what becomes of each.

    Those that share steps with one under way come later, if there are others: they would wait for it.
    """
    waiting, under_way = list(variants), dict[Future[Built | Failed], Variant]()
    while waiting or under_way:
        while waiting and len(under_way) < jobs:
            chosen = next((each for each in waiting if _is_alone(each, under_way.values())), waiting[0])
            waiting.remove(chosen)
            under_way[begin(chosen)] = chosen
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            del under_way[future]
            yield future.result()
            if isinstance(future.result(), Failed) and not keep_going:
                waiting.clear()


def _is_alone(variant: Variant, others: Iterable[Variant]) -> bool:
    """Return whether no other is of the same network in the same form, which share weights, conversion and examples."""
    forms = _forms(variant)
    return all(form not in forms for other in others for form in _forms(other))


def _forms(variant: Variant) -> list[tuple[str, Any]]:
    return [(each.network, each.form) for each in (variant, *variant.functions.values())]


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
    _end_with_parent()


def _end_with_parent() -> None:
    """Let this process end when the build does, however that ends: what is killed cannot tell its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_it() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_for_it, daemon=True).start()


def _attempt_in_worker(variant: Variant, settings: Settings, news: Any) -> Built | Failed:
    return _attempt(variant, settings, lambda name, step: news.put((name, step)))


def _listen(news: Any, watch: Watch) -> None:
    with contextlib.suppress(EOFError, ConnectionError):  # the build is over, and its channel with it
        while (item := news.get()) is not None:
            watch(*item)
