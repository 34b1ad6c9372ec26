"""Elements of MIL as they lie in storage: little-endian, and packed least significant bits first below one byte."""

import numpy as np

from mil.types import ElementType

# Eight elements of any width fill whole bytes, so packed data is handled in groups of eight.
_GROUP = 8


def packed_size(element_type: ElementType, count: int) -> int:
    """Return how many bytes `count` elements take in storage."""
    return -(-count * element_type.bits // 8)


def unpack(data: np.ndarray, element_type: ElementType, count: int) -> np.ndarray:
    """Return the `count` elements that `data` holds.

    data      (packed_size,)  uint8; a view of it is returned where storage is what numpy computes with
    returns   (count,)  `element_type.numpy`, or float32 for the float types that numpy lacks (bf16 and fp8: exact)
    """
    assert data.size == packed_size(element_type, count)
    if element_type.bits < 8:
        return _unpack_bits(data, element_type, count)
    if element_type.name == "bf16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if element_type.numpy is None:
        return _FP8_TABLES[element_type.name]()[data]
    return data.view(element_type.numpy)


def pack(values: np.ndarray, element_type: ElementType) -> np.ndarray:
    """Return the storage, (packed_size,) uint8, of integer elements below one byte, or of any type numpy has."""
    assert element_type.numpy is not None
    flat = np.ascontiguousarray(values, element_type.numpy).reshape(-1)
    if element_type.bits >= 8:
        return flat.view(np.uint8)
    return _pack_bits(flat.view(np.uint8), element_type)


def _pack_bits(flat: np.ndarray, element_type: ElementType) -> np.ndarray:
    bits = element_type.bits
    groups = -(-flat.size // _GROUP)
    elements = np.zeros((groups, _GROUP), np.uint8)
    np.bitwise_and(flat, (1 << bits) - 1, out=elements.reshape(-1)[: flat.size])
    columns = np.zeros((groups, bits), np.uint8)
    for position in range(_GROUP):
        byte, shift = divmod(position * bits, 8)
        columns[:, byte] |= elements[:, position] << shift
        if shift + bits > 8:
            columns[:, byte + 1] |= elements[:, position] >> (8 - shift)
    return columns.reshape(-1)[: packed_size(element_type, flat.size)]


def _unpack_bits(data: np.ndarray, element_type: ElementType, count: int) -> np.ndarray:
    bits = element_type.bits
    groups = -(-count // _GROUP)
    padded = np.zeros(groups * bits, np.uint8)
    padded[: data.size] = data
    columns = padded.reshape(groups, bits)
    elements = np.empty((groups, _GROUP), np.uint8)
    for position in range(_GROUP):
        byte, shift = divmod(position * bits, 8)
        elements[:, position] = columns[:, byte] >> shift
        if shift + bits > 8:
            elements[:, position] |= columns[:, byte + 1] << (8 - shift)
    elements &= (1 << bits) - 1
    flat = elements.reshape(-1)[:count]
    if element_type.kind == "int":
        sign = np.int8(1 << (bits - 1))
        return (flat.view(np.int8) ^ sign) - sign
    return flat


def _fp8_table(exponent_bits: int, mantissa_bits: int, has_infinities: bool) -> np.ndarray:
    """Return the value of each of the 256 codes. Source: OCP 8-bit Floating Point Specification 1.0."""
    codes = np.arange(256)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    normal = np.ldexp(1 + fraction, exponent - bias)
    values = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), normal)
    top = exponent == (1 << exponent_bits) - 1
    if has_infinities:
        values[top] = np.where(fraction[top] == 0, np.inf, np.nan)
    else:
        values[codes & 0x7F == 0x7F] = np.nan
    return np.where(codes >= 128, -values, values).astype(np.float32)


_FP8_TABLES = {
    "fp8e4m3fn": lambda: _fp8_table(4, 3, has_infinities=False),
    "fp8e5m2": lambda: _fp8_table(5, 2, has_infinities=True),
}
