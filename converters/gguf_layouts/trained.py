"""The tensors of the checkpoint that a network was made of."""

from typing import Any

from pipeline.types import Arrays, QuernError


def trained_tensors(network: Any) -> Arrays:
    """Return `network.trained`; raises QuernError for a network that was not given them.

    Runtimes do what our networks have folded away (an offset of the waveform, batch normalisation, centring), so what
    they load is the checkpoint's tensors and not those of the network.
    """
    tensors: Arrays | None = getattr(network, "trained", None)
    if tensors is None:
        kind = type(network).__name__
        raise QuernError(f"{kind}: a GGUF file holds the tensors of the checkpoint; expected them as `module.trained`")
    return tensors
