"""Which layout a network has, by its class."""

from types import ModuleType
from typing import Any

from pipeline.types import QuernError


def layout_of(module: Any) -> ModuleType:
    """Return the layout of a network; raises QuernError if there is none for its class."""
    from converters.gguf_layouts import plda, pyannet, wespeaker
    from converters.networks.processors.plda import PldaRho
    from converters.networks.pyannet import PyanNet
    from converters.networks.wespeaker import OneAudio

    layouts = {PyanNet: pyannet, OneAudio: wespeaker, PldaRho: plda}
    if type(module) not in layouts:
        known = ", ".join(kind.__name__ for kind in layouts)
        raise QuernError(f"{type(module).__name__}: no GGUF layout for this network; those with one: {known}")
    return layouts[type(module)]
