"""How much memory work takes, in a process of its own, so that nothing that ran before it counts."""

import importlib
import platform
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVarTuple

Arguments = TypeVarTuple("Arguments")


def grown_mb(imported: str, work: Callable[[*Arguments], None], *arguments: *Arguments) -> float:
    """Return by how many MB of 10^6 bytes the peak of a fresh process grows while it works.

    What importing the module `imported` takes is there before. Raises what `work` raises, and BrokenProcessPool where
    it ends the process.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_growth, imported, work, arguments).result()


def _growth(imported: str, work: Callable[..., None], arguments: tuple) -> float:
    importlib.import_module(imported)
    before = _peak_bytes()
    work(*arguments)
    return (_peak_bytes() - before) / 1e6


def _peak_bytes() -> int:
    """Return the largest resident set of this process so far.

    On Linux ru_maxrss would begin with that of the process that started this one, and counts in units of 1024.
    """
    if platform.system() != "Linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024
