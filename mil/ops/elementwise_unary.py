"""Operations on each element of one tensor: coremltools' `elementwise_unary.py` of iOS15 and iOS17."""

import numpy as np
import torch

from mil import types
from mil.errors import MilError
from mil.ops.arguments import Float, Str, Tensor


def abs(x: Tensor) -> Tensor:
    """|x|."""
    return torch.abs(x)


def acos(x: Tensor) -> Tensor:
    """Inverse cosine in radians; NaN outside −1 … 1."""
    return torch.acos(x)


def asin(x: Tensor) -> Tensor:
    """Inverse sine in radians; NaN outside −1 … 1."""
    return torch.asin(x)


def atan(x: Tensor) -> Tensor:
    """Inverse tangent in radians."""
    return torch.atan(x)


def atanh(x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent; NaN outside −1 … 1."""
    return torch.atanh(x)


def cast(x: Tensor, dtype: Str) -> Tensor:
    """The values of x, as far as the named type can hold them; rounding and wrapping to its width are the executor's.

    Floats become integers by cutting off towards zero; what the integer type cannot hold becomes its nearest end and
    NaN becomes 0, as ARM's conversion instructions have it. Integers become float64, which loses nothing.

    Raises MilError for a type that MIL does not have, or that holds no numbers.
    """
    target = types.BY_NAME.get(dtype)
    if target is None or target.kind == "string":
        raise MilError(f"cast: type {dtype!r}; expected a type of numbers, such as fp16, fp32, int32 or bool")
    if target.kind == "bool":
        return x.bool()
    if target.kind == "float":
        return x if x.is_floating_point() else x.double()
    return _truncated(x, target) if x.is_floating_point() else x.to(torch.promote_types(x.dtype, torch.int32))


def ceil(x: Tensor) -> Tensor:
    """The smallest whole number not below x."""
    return torch.ceil(x)


def clip(x: Tensor, alpha: Float, beta: Float) -> Tensor:
    """x limited to alpha … beta; beta where alpha is above it."""
    return torch.clamp(x, alpha, beta)


def cos(x: Tensor) -> Tensor:
    """Cosine of x radians."""
    return torch.cos(x)


def cosh(x: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return torch.cosh(x)


def erf(x: Tensor) -> Tensor:
    """Gauss error function."""
    return torch.erf(x)


def exp(x: Tensor) -> Tensor:
    """eˣ."""
    return torch.exp(x)


def exp2(x: Tensor) -> Tensor:
    """2ˣ; of integers an integer, cut off towards zero and 0 from 2⁶³ on, as wrapping makes it."""
    if x.is_floating_point():
        return torch.exp2(x)
    held = (x >= 0) & (x < 63)
    return held.long() << x.clamp(0, 62)


def floor(x: Tensor) -> Tensor:
    """The largest whole number not above x."""
    return torch.floor(x)


def inverse(x: Tensor, epsilon: Float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return x.add(epsilon).reciprocal_()


def log(x: Tensor, epsilon: Float = 1e-45) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return x.add(epsilon).log_() if epsilon else torch.log(x)


def logical_not(x: Tensor) -> Tensor:
    """True where x is not."""
    return torch.logical_not(x)


def round(x: Tensor) -> Tensor:
    """The nearest whole number; the even one of two."""
    return torch.round(x)


def rsqrt(x: Tensor, epsilon: Float = 1e-12) -> Tensor:
    """1 / √(x + epsilon)."""
    return x.add(epsilon).rsqrt_()


def sign(x: Tensor) -> Tensor:
    """−1, 0 or 1; NaN of NaN."""
    return torch.where(x.isnan(), x, x.sign())


def sin(x: Tensor) -> Tensor:
    """Sine of x radians."""
    return torch.sin(x)


def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return torch.sinh(x)


def sqrt(x: Tensor) -> Tensor:
    """√x."""
    return torch.sqrt(x)


def square(x: Tensor) -> Tensor:
    """x²."""
    return x * x


def tan(x: Tensor) -> Tensor:
    """Tangent of x radians."""
    return torch.tan(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


def threshold(x: Tensor, alpha: Float) -> Tensor:
    """max(x, alpha)."""
    return x.clamp_min(alpha if x.is_floating_point() else int(alpha))


def _truncated(x: Tensor, target: types.ElementType) -> Tensor:
    lowest, highest = (0, 2**target.bits - 1) if target.kind == "uint" else _ends(target.bits)
    largest = float(np.nextafter(2.0**63, 0))  # of the float64 values that int64 holds
    return x.double().trunc().nan_to_num_(0.0).clamp_(lowest, min(highest, largest)).long()


def _ends(bits: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
