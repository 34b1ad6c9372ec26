"""Operations on states, the tensors that outlive a prediction: coremltools' `iOS18/states.py` and `coreml_dialect`.

`write_state` is what coremltools' `coreml_update_state` becomes in a saved program, with `read_state` after it.
"""

from mil.ops.arguments import State, Tensor


def read_state(input: State) -> Tensor:
    """The tensor that a state holds."""
    return input.value


def write_state(input: State, data: Tensor) -> tuple[()]:
    """Let a state hold `data`; no result."""
    input.value = data
    return ()


def coreml_update_state(state: State, value: Tensor) -> Tensor:
    """Let a state hold `value` and return it."""
    state.value = value
    return value
