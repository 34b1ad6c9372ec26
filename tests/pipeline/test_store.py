import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from mil.links import link_tree
from pipeline.recipe import key
from pipeline.store import CorruptedError, MissingError, Store, folder_digest
from pipeline.types import Step


def step(text: str = "flour", name: str = "grind", **more: object) -> Step:
    def run(folder: Path) -> None:
        (folder / "sack").mkdir()
        (folder / "sack" / "flour.txt").write_text(text)

    return Step(name, {"step": name, "text": text}, run, **more)  # type: ignore[arg-type]


def test_a_step_is_built_once(tmp_path: Path) -> None:
    """The second time, the store answers without working."""
    begun: list[str] = []
    store = Store(tmp_path, watch=begun.append)
    first, second = store.get(step()), store.get(step())
    assert first == second
    assert begun == ["grind"]
    assert (first.path / "sack" / "flour.txt").read_text() == "flour"


def test_the_digest_is_of_the_content_only(tmp_path: Path) -> None:
    """Two recipes with the same result have the same digest, so what follows them is shared."""
    store = Store(tmp_path)
    assert store.get(step(name="grind")).digest == store.get(step(name="mill")).digest
    assert store.get(step("bran")).digest != store.get(step()).digest
    assert folder_digest(store.get(step()).path) == store.get(step()).digest


def test_files_are_read_only(tmp_path: Path) -> None:
    """Nobody changes what is stored by mistake."""
    artifact = Store(tmp_path).get(step())
    assert not (artifact.path / "sack" / "flour.txt").stat().st_mode & stat.S_IWUSR


def test_a_store_that_only_looks_says_what_is_missing(tmp_path: Path) -> None:
    """Explaining and planning build nothing."""
    with pytest.raises(MissingError) as missing:
        Store(tmp_path, builds=False).get(step())
    assert missing.value.step.name == "grind"
    assert not list(tmp_path.iterdir())


def test_an_altered_entry_is_built_again(tmp_path: Path) -> None:
    """A file of another size or time is hashed, and if it is not what was stored, it is made anew."""
    store = Store(tmp_path)
    file = store.get(step()).path / "sack" / "flour.txt"
    file.chmod(0o644)
    file.write_text("chaff")
    assert (store.get(step()).path / "sack" / "flour.txt").read_text() == "flour"


def test_a_copied_store_is_still_good(tmp_path: Path) -> None:
    """The same bytes under other inodes and times are accepted, and trusted at a glance from then on."""
    import shutil

    Store(tmp_path / "a").get(step())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(next((tmp_path / "b").glob("*/sack/flour.txt")))
    begun: list[str] = []
    Store(tmp_path / "b", watch=begun.append).get(step())
    assert begun == []


def test_an_altered_input_stops_the_step_and_heals(tmp_path: Path) -> None:
    """What a step reads is hashed, whatever its size and time say; a second start makes it again."""
    store = Store(tmp_path)
    artifact = store.get(step())
    file = artifact.path / "sack" / "flour.txt"
    before = file.stat()
    file.chmod(0o644)
    file.write_text("FLOUR")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    bake = Step("bake", {"step": "bake", "of": artifact.digest}, lambda folder: None, (artifact,))
    with pytest.raises(CorruptedError):
        store.get(bake)
    assert (store.get(step()).path / "sack" / "flour.txt").read_text() == "flour"


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An entry is whole or not there."""

    def run(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no more grain")

    with pytest.raises(RuntimeError):
        Store(tmp_path).get(Step("grind", {"x": 1}, run))
    assert not (tmp_path / key({"x": 1})).exists()
    assert not list((tmp_path / ".tmp").iterdir())


def _slow(root: Path, started: Path) -> None:
    def run(folder: Path) -> None:
        (folder / "half").write_text("half")
        started.touch()
        time.sleep(60)

    Store(root).get(Step("grind", {"x": 1}, run))


def test_a_killed_build_leaves_only_what_prune_sweeps(tmp_path: Path) -> None:
    """After kill -9 the entry is not there, the lock is free, and the next build makes it."""
    worker = multiprocessing.get_context("fork").Process(target=_slow, args=(tmp_path / "s", tmp_path / "started"))
    worker.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    store = Store(tmp_path / "s")
    assert not (tmp_path / "s" / key({"x": 1})).exists()
    store.get(Step("grind", {"x": 1}, lambda folder: (folder / "whole").touch()))
    store.prune([key({"x": 1})])
    assert [path.name for path in (tmp_path / "s" / key({"x": 1})).glob("w*")] == ["whole"]
    assert not list((tmp_path / "s" / ".tmp").iterdir())


def test_what_a_killed_run_left_is_given_to_the_next(tmp_path: Path) -> None:
    """A step that resumes finds its own leavings, and no other's; when it is done, nothing is left of them."""
    store, seen = Store(tmp_path), []

    def run(folder: Path) -> None:
        seen.append(sorted(path.name for path in folder.iterdir()))
        (folder / f"sack {len(seen)}").write_text("flour")
        (folder / f"sack {len(seen)}").chmod(0o444)
        for path in folder.iterdir():
            assert path.name == f"sack {len(seen)}" or path.stat().st_mode & 0o200
        if len(seen) < 3:
            raise KeyboardInterrupt

    for recipe in ({"x": 1}, {"x": 2}):
        with pytest.raises(KeyboardInterrupt):
            store.get(Step("grind", recipe, run, resumes=True))
    found = store.get(Step("grind", {"x": 1}, run, resumes=True))
    assert seen == [[], [], ["sack 1"]]
    assert sorted(path.name for path in found.path.glob("sack*")) == ["sack 1", "sack 3"]
    store.prune([key({"x": 1})])
    assert not list((tmp_path / ".tmp").iterdir())


def _count(root: Path, log: Path) -> None:
    def run(folder: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        (folder / "flour").touch()

    Store(root).get(Step("grind", {"x": 1}, run))


def test_two_builds_at_once_do_the_work_once(tmp_path: Path) -> None:
    """The second waits for the first and takes what it made."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(tmp_path / "s", tmp_path / "log")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_check_drops_what_was_altered(tmp_path: Path) -> None:
    """Hashing everything finds a change that kept size and time."""
    store = Store(tmp_path)
    good, bad = store.get(step("good")), store.get(step("evil"))
    file = bad.path / "sack" / "flour.txt"
    before = file.stat()
    file.chmod(0o644)
    file.write_text("EVIL")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(store.check()) == [bad.path.name]
    assert good.path.exists()
    assert not bad.path.exists()


def test_prune_keeps_what_is_wanted_and_what_it_was_made_from(tmp_path: Path) -> None:
    """Parts that a wanted step used are kept with it."""
    store = Store(tmp_path)
    part, unused = store.get(step("part")), store.get(step("unused"))

    def run(folder: Path) -> None:
        (folder / "whole").touch()
        store.note_uses(folder, [part.path.name])

    whole = store.get(Step("whole", {"x": 2}, run))
    assert store.prune([whole.path.name]) == [unused.path.name]
    assert part.path.exists()


def test_linked_trees_share_their_blocks(tmp_path: Path) -> None:
    """An artifact takes no room beside the store."""
    artifact = Store(tmp_path / "s").get(step())
    link_tree(artifact.path / "sack", tmp_path / "out")
    assert (tmp_path / "out" / "flour.txt").stat().st_ino == (artifact.path / "sack" / "flour.txt").stat().st_ino
