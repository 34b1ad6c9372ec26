"""What the parameters of an operation's function may be.

An operation is a plain function. Its name is the operation's, its parameters are the operation's inputs in the order
that coremltools declares them, and an optional input has a default. The annotation of a parameter says what the
function is handed; the binder converts constants once, when the program is bound, and computed values at each call.

    Tensor     a torch tensor; floats are float32 (float64 in that mode), integers int32 or int64, bool is bool
    Tensors    a list of them (`values` of concat)
    Ints       a list of Python ints          Int      a Python int
    Bools      a list of Python bools         Bool     a Python bool
    Floats     a list of Python floats        Float    a Python float
    Str        a Python str                  Strs      a list of them
    State      a tensor that outlives the run, to read and to replace
    TensorList a list of tensors, to read; writing makes another
    list[int] | list[str] and the like: whatever the program gives, as Python values

`Tensor | None` without a default is an optional input before a required one: None where the program leaves it out.

A function returns a tensor, or a tuple of tensors where the operation has several outputs. It computes in the width
it is given and does not round: the executor rounds every result to its declared type and checks its shape. A result
of another float or integer width is fine; a float where an integer is declared, or the reverse, is an error.

A keyword-only parameter is no input of the operation; the executor fills it in:

    rounding   Rounding, for operations that keep a state while they run (lstm, gru, rnn, cumsum …)
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor
Tensors: TypeAlias = list[torch.Tensor]
Ints: TypeAlias = list[int]
Bools: TypeAlias = list[bool]
Floats: TypeAlias = list[float]
Int: TypeAlias = int
Bool: TypeAlias = bool
Float: TypeAlias = float
Str: TypeAlias = str
Strs: TypeAlias = list[str]


@dataclass
class State:
    """A state of a program: the tensor that it holds now."""

    value: Tensor


@dataclass(frozen=True)
class TensorList:
    """A list of MIL: tensors, or None where nothing has been written yet."""

    elements: tuple[Tensor | None, ...]
    dynamic_length: bool


@dataclass(frozen=True)
class Rounding:
    """Brings a tensor to the values that `dtype` has, in the width it came in; None changes nothing."""

    dtype: torch.dtype | None = None

    def __call__(self, value: Tensor) -> Tensor:
        return value if self.dtype is None else value.to(self.dtype).to(value.dtype)


exact = Rounding()
