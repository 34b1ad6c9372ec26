"""One direction of an LSTM whose states are fp16, compiled: the arithmetic of `recurrent.py`, five times faster.

Torch offers an LSTM that does not round its state and single operations that cost more than a step is worth, so this
loop is compiled by numba. Sums are float32 in the order of the hidden units; exponentials are within 2 ulp.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np

_F16_LARGEST = np.float32(65504)
_F16_SMALLEST_NORMAL = np.float32(2**-14)
_TO_MULTIPLES_OF_2_24 = np.float32(0.75)  # 1.5 · 2^23 · 2^-24: adding it leaves no bits below 2^-24
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


@numba.njit("void(f4[::1], f4[::1], i4[::1])", nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _exponential(x: np.ndarray, scale: np.ndarray, scale_bits: np.ndarray) -> None:
    """Replace x by e^x, in loops that become vector instructions; `scale` and `scale_bits` share memory.

    Source: Cody & Waite's reduction to |r| ≤ ln 2 / 2 and the degree-7 Taylor polynomial, whose error there is 2e-8.
    """
    for j in range(x.size):
        # ±87 keep 2^n a normal number; beyond them a sigmoid or tanh is 0 or 1 in float32 anyway
        value = min(max(x[j], np.float32(-87)), np.float32(87)) if x[j] == x[j] else x[j]
        n = np.floor(value * _LOG2_E + np.float32(0.5))
        r = (value - n * _LN2_HIGH) - n * _LN2_LOW
        p = np.float32(1 / 5040)
        p = p * r + np.float32(1 / 720)
        p = p * r + np.float32(1 / 120)
        p = p * r + np.float32(1 / 24)
        p = p * r + np.float32(1 / 6)
        p = p * r + np.float32(1 / 2)
        p = p * r + np.float32(1)
        x[j] = p * r + np.float32(1)
        scale_bits[j] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for j in range(x.size):
        x[j] *= scale[j]


@numba.njit("void(f4[::1], i4[::1])", nogil=True, cache=True, error_model="numpy")
def _round_to_fp16(x: np.ndarray, bits: np.ndarray) -> None:
    """Round x to the nearest fp16, ties to even, as IEEE 754 has it; x and bits share memory."""
    for j in range(x.size):
        value = x[j]
        if abs(value) < _F16_SMALLEST_NORMAL:
            x[j] = np.copysign((value + _TO_MULTIPLES_OF_2_24) - _TO_MULTIPLES_OF_2_24, value)
        elif value == value:
            bits[j] = (bits[j] + np.int32(0xFFF) + ((bits[j] >> np.int32(13)) & np.int32(1))) & np.int32(~0x1FFF)
            if abs(x[j]) > _F16_LARGEST:
                x[j] = np.copysign(np.float32(np.inf), value)


@numba.njit(
    "void(f4[::1], f4[::1], f4[::1], i4[::1])", nogil=True, cache=True, fastmath={"contract"}, error_model="numpy"
)
def _tanh(x: np.ndarray, work: np.ndarray, scale: np.ndarray, scale_bits: np.ndarray) -> None:
    """Replace x by tanh x: 2 / (1 + e^(-2x)) - 1, and near 0, where that cancels, the Taylor series to x^7."""
    for j in range(x.size):
        work[j] = np.float32(-2) * x[j]
    _exponential(work, scale, scale_bits)
    for j in range(x.size):
        square = x[j] * x[j]
        series = np.float32(-17 / 315)
        series = series * square + np.float32(2 / 15)
        series = series * square - np.float32(1 / 3)
        far = np.float32(2) / (np.float32(1) + work[j]) - np.float32(1)
        x[j] = x[j] + x[j] * square * series if abs(x[j]) < np.float32(0.25) else far


@numba.njit("void(f4[::1], f4[:, ::1], f4[::1])", nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _add_product(gates: np.ndarray, recurrent: np.ndarray, h: np.ndarray) -> None:
    """Add h · recurrent to the gates, four rows at a time: what limits it is how often the gates are stored."""
    whole = h.size - h.size % 4
    for k in range(0, whole, 4):
        h0, h1, h2, h3 = h[k], h[k + 1], h[k + 2], h[k + 3]
        a, b, c, d = recurrent[k], recurrent[k + 1], recurrent[k + 2], recurrent[k + 3]
        for j in range(gates.size):
            gates[j] += h0 * a[j] + h1 * b[j] + h2 * c[j] + h3 * d[j]
    for k in range(whole, h.size):
        for j in range(gates.size):
            gates[j] += h[k] * recurrent[k, j]


@numba.njit(
    "void(f4[:, ::1], f4[:, ::1], f4[::1], f4[::1], f4[:, ::1])",
    nogil=True,
    cache=True,
    fastmath={"contract"},
    error_model="numpy",
)
def lstm_steps_fp16(
    projected: np.ndarray, recurrent: np.ndarray, h: np.ndarray, c: np.ndarray, sequence: np.ndarray
) -> None:
    """Run one sequence through one direction; h and c become the last states.

    projected   (step, 4 · hidden)     what does not depend on the state; gates input, forget, output, cell
    recurrent   (hidden, 4 · hidden)   the transposed recurrent weights
    sequence    (step, hidden)         receives every step's h
    """
    size = h.size
    gates = np.empty(4 * size, np.float32)
    opened, z = gates[: 3 * size], gates[3 * size :]  # the three sigmoids as 1 + e^-x, the cell gate
    scale, work, squashed = np.empty(3 * size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    scale_bits, h_bits, c_bits = scale.view(np.int32), h.view(np.int32), c.view(np.int32)
    for t in range(projected.shape[0]):
        gates[:] = projected[t]
        _add_product(gates, recurrent, h)
        for j in range(3 * size):
            opened[j] = -opened[j]
        _exponential(opened, scale, scale_bits)
        for j in range(3 * size):
            opened[j] += np.float32(1)
        _tanh(z, work, scale, scale_bits)
        for j in range(size):
            c[j] = c[j] / opened[size + j] + z[j] / opened[j]
        _round_to_fp16(c, c_bits)
        squashed[:] = c
        _tanh(squashed, work, scale, scale_bits)
        for j in range(size):
            h[j] = squashed[j] / opened[2 * size + j]
        _round_to_fp16(h, h_bits)
        sequence[t] = h
