"""The weights of a GGUF file inside a graph."""

from collections.abc import Mapping

from ggml import ggml

from converters.ggml.graph import Graph, Tensor


class Weights:
    """The tensors of a file by name, as they are, or all in single precision if `widened`."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor], widened: bool) -> None:
        self._graph, self._tensors, self._widened = graph, tensors, widened

    def __getitem__(self, name: str) -> Tensor:
        return self.single(name) if self._widened else self._tensors[name]

    def single(self, name: str) -> Tensor:
        """Return a tensor in single precision, whatever the file holds."""
        tensor = self._tensors[name]
        half = tensor.contents.type == ggml.GGML_TYPE_F16
        return self._graph.cast(tensor, ggml.GGML_TYPE_F32) if half else tensor
