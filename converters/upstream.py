"""Importing upstream's own networks, the references that ours are held against."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Return pyannote.audio's class `PyanNet` and its module `core.task`; see `_pyannote_importable`."""
    with _pyannote_importable():
        from pyannote.audio.core import task
        from pyannote.audio.models.segmentation import PyanNet
    return PyanNet, task


def pyannote_wespeaker() -> Any:
    """Return pyannote.audio's class `WeSpeakerResNet34`; see `_pyannote_importable`."""
    with _pyannote_importable():
        from pyannote.audio.models.embedding import WeSpeakerResNet34
    return WeSpeakerResNet34


def pyannote_vbx_setup() -> Any:
    """Return pyannote.audio's function `vbx_setup`, which reads a PLDA; see `_pyannote_importable`."""
    with _pyannote_importable():
        from pyannote.audio.utils.vbx import vbx_setup
    return vbx_setup


@contextmanager
def _pyannote_importable() -> Iterator[None]:
    """Let pyannote.audio be imported without its telemetry, which a user may have turned on, and without a warning.

    Raises ImportError where it is not installed.
    """
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "false")
    torchaudio()
    with warnings.catch_warnings():
        # Audio is passed to it as arrays, so it need not decode any.
        warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")
        yield


def nemo_sortformer() -> tuple[Any, Any]:
    """Return NeMo's class `SortformerEncLabelModel` and the function that makes a configuration of a dict for it.

    Raises ImportError where NeMo is not installed. What NeMo says of training data and telemetry that it goes without
    is left unsaid.
    """
    torchaudio()
    logging.getLogger("nv_one_logger").setLevel(logging.ERROR)
    from nemo.collections.asr.models.sortformer_diar_models import SortformerEncLabelModel
    from nemo.utils import logging as nemo_logging
    from omegaconf import OmegaConf

    nemo_logging.setLevel(logging.ERROR)
    return SortformerEncLabelModel, OmegaConf.create
