"""Importing upstream's own networks, the references that ours are held against."""

import os
import sys
import warnings
from types import ModuleType
from typing import Any


def torchaudio() -> ModuleType:
    """Return torchaudio, also where its native library cannot be loaded.

    PyPI's torchaudio is built for CUDA, and its library does not load beside a CPU build of torch. The parts that are
    plain Python need none of it, so torchaudio is told what it would conclude had it been shipped without the library.
    Raises ImportError where torchaudio is not installed.
    """
    try:
        import torchaudio as module
    except OSError:  # what ctypes raises for a library whose dependencies are missing
        sys.modules["torchaudio._extension.utils"]._load_lib = lambda lib: False  # type: ignore[attr-defined]
        import torchaudio as module
    return module


def pyannote_segmentation() -> tuple[Any, ModuleType]:
    """Return pyannote.audio's class `PyanNet` and its module `core.task`.

    Raises ImportError where pyannote.audio is not installed. Its telemetry is off unless the user has turned it on.
    """
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "false")
    torchaudio()
    with warnings.catch_warnings():
        # Audio is passed to it as arrays, so it need not decode any.
        warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")
        from pyannote.audio.core import task
        from pyannote.audio.models.segmentation import PyanNet
    return PyanNet, task
