"""A computation on ggml: the operations of one shape of input, laid out in memory once and run many times.

ggml names the axes of a tensor from the innermost outwards: a numpy array of shape (batch, frame, feature) is a tensor
of extents (feature, frame, batch).
"""

import ctypes
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from ggml import ggml

from pipeline.types import Arrays

Tensor = Any  # a ctypes pointer to ggml_tensor


def extents(tensor: Tensor) -> tuple[int, ...]:
    """Return the lengths of all four axes, the innermost first."""
    return tuple(tensor.contents.ne)


class Graph:
    """A graph under construction: `graph.mul_mat(a, b)` is `ggml_mul_mat(context, a, b)`, and so for every operation.

    capacity   the most tensors that the graph will hold, views included
    """

    def __init__(self, capacity: int) -> None:
        size = capacity * ggml.ggml_tensor_overhead() + ggml.ggml_graph_overhead_custom(capacity, False)
        params = ggml.ggml_init_params(mem_size=size, mem_buffer=None, no_alloc=True)
        self.context = ggml.ggml_init(params)
        self.nodes = ggml.ggml_new_graph_custom(self.context, capacity, False)
        weakref.finalize(self, ggml.ggml_free, self.context)

    def __getattr__(self, operation: str) -> Callable[..., Tensor]:
        function, context = getattr(ggml, f"ggml_{operation}"), self.context
        bound = partial(function, context)
        setattr(self, operation, bound)  # looked up once: a graph asks for tens of thousands
        return bound

    def input(self, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of single precision that is filled before each run; `shape` as numpy has it."""
        extent = (ctypes.c_int64 * len(shape))(*reversed(shape))
        tensor = self.new_tensor(ggml.GGML_TYPE_F32, len(shape), extent)
        ggml.ggml_set_input(tensor)
        return tensor

    def schedule(self, tensor: Tensor) -> None:
        """Have a tensor computed after all that was scheduled before.

        ggml walks back from it to what is scheduled already, on the stack: schedule a long chain link by link.
        """
        ggml.ggml_build_forward_expand(self.nodes, tensor)

    def output(self, tensor: Tensor) -> None:
        """Have a tensor computed and kept until it is read."""
        ggml.ggml_set_output(tensor)
        self.schedule(tensor)


class Session:
    """A finished graph with the memory that it computes in; intermediate results share it as their lives allow.

    inputs, outputs   tensors of the graph, by name; outputs were declared by `Graph.output`
    keep              whatever must live as long as the session: the file whose weights the graph refers to
    constants         inputs that are the same in every run
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        keep: object,
        constants: Mapping[str, np.ndarray] | None = None,
        threads: int = 1,
    ) -> None:
        self._graph, self._inputs, self._outputs, self._keep = graph, inputs, outputs, keep
        self._constants = constants or {}
        self._backend = ggml.ggml_backend_cpu_init()
        weakref.finalize(self, ggml.ggml_backend_free, self._backend)
        ggml.ggml_backend_cpu_set_n_threads(self._backend, threads)
        allocator = ggml.ggml_gallocr_new(ggml.ggml_backend_get_default_buffer_type(self._backend))
        weakref.finalize(self, ggml.ggml_gallocr_free, allocator)
        if not ggml.ggml_gallocr_alloc_graph(allocator, graph.nodes):
            raise MemoryError("ggml has no memory for this graph")

    def run(self, arrays: Arrays) -> Arrays:
        """Return the outputs for these inputs, single precision, all four axes, the outermost first; fresh arrays."""
        given = {**arrays, **self._constants}  # constants too: what they lie in is used again during a run
        for name, tensor in self._inputs.items():
            content = np.ascontiguousarray(given[name], np.float32)
            ggml.ggml_backend_tensor_set(tensor, content.ctypes.data, 0, content.nbytes)
        status = ggml.ggml_backend_graph_compute(self._backend, self._graph.nodes)
        assert status == ggml.GGML_STATUS_SUCCESS, f"ggml: status {status}"
        return {name: _array(tensor) for name, tensor in self._outputs.items()}


def _array(tensor: Tensor) -> np.ndarray:
    array = np.empty(tuple(reversed(extents(tensor))), np.float32)
    ggml.ggml_backend_tensor_get(tensor, array.ctypes.data, 0, array.nbytes)
    return array
