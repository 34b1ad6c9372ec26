"""Choosing between values: the part of coremltools' `iOS15/control_flow.py` that computes.

`const`, `cond` and `while_loop` hold values and blocks of operations, and are the executor's; lists are in `lists.py`.
"""

import torch

from mil.ops.arguments import Tensor


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond is true, else b; the three broadcast."""
    return torch.where(cond, a, b)
