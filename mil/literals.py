"""Numbers and strings as `model.mil` spells them, and back, exactly.

    0x1.8p+1       floats: C99 hexadecimal, one digit before the point, as few as possible after it
    0x0p+0         zero, with its sign
    inf, -inf      infinities
    nan            the quiet NaN without payload; any other is nan(0x201), the significand field as C's strtod takes it
    "a \\"b\\" \\\\"   strings: quotes and backslashes escaped, controls as \\n, \\r, \\t or \\xHH, the rest as UTF-8

Floats are handled as bit patterns, so that every value of every width survives. Reading accepts decimal floats too,
and rounds to nearest even what has more digits than the type.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from mil.errors import MilError


@dataclass(frozen=True)
class FloatFormat:
    """The layout of an IEEE 754 binary format: a sign bit, then exponent and significand fields of these widths."""

    name: str
    exponent_bits: int
    significand_bits: int

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def largest_field(self) -> int:
        """The exponent field of infinities and NaNs."""
        return (1 << self.exponent_bits) - 1

    @property
    def least_power(self) -> int:
        """The power of two of the smallest normal number."""
        return 1 - self.bias


FLOAT_FORMATS = {
    row.name: row
    for row in (
        FloatFormat("fp16", 5, 10),
        FloatFormat("bf16", 8, 7),
        FloatFormat("fp32", 8, 23),
        FloatFormat("fp64", 11, 52),
    )
}

_HEX_FLOAT = re.compile(r"0[xX]([0-9a-fA-F]+)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?[0-9]+))?")
_DECIMAL_FLOAT = re.compile(r"([0-9]+)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_NAN = re.compile(r"nan(?:\(0x([0-9a-f]+)\))?")
_LONGEST_NUMBER = 2000
# Beyond any format's range; keeps a hostile exponent from asking for gigabytes of digits.
_LARGEST_EXPONENT = 5000


def format_float(bits: int, layout: FloatFormat) -> str:
    """Return the literal of the float whose bit pattern is `bits`."""
    significand = bits & ((1 << layout.significand_bits) - 1)
    field = bits >> layout.significand_bits & layout.largest_field
    sign = "-" if bits >> (layout.significand_bits + layout.exponent_bits) else ""
    if field == layout.largest_field:
        return sign + _format_special(significand, layout)
    if field:
        significand |= 1 << layout.significand_bits
    if not significand:
        return f"{sign}0x0p+0"
    top = significand.bit_length() - 1
    power = top + max(field, 1) - layout.bias - layout.significand_bits
    digits = _hex_digits(significand - (1 << top), top)
    return f"{sign}0x1{'.' if digits else ''}{digits}p{power:+d}"


def parse_float(text: str, layout: FloatFormat) -> int:
    """Return the bit pattern of a literal; raises MilError for one that is no float or is too large for the type."""
    negative = text.startswith("-")
    sign = int(negative) << (layout.significand_bits + layout.exponent_bits)
    return sign | _parse_magnitude(text[negative:], layout)


def _format_special(significand: int, layout: FloatFormat) -> str:
    if not significand:
        return "inf"
    return "nan" if significand == _quiet(layout) else f"nan({significand:#x})"


def _quiet(layout: FloatFormat) -> int:
    return 1 << (layout.significand_bits - 1)


def _hex_digits(fraction: int, bits: int) -> str:
    """Return the hexadecimal digits after the point of fraction / 2**bits, without trailing zeros."""
    padding = -bits % 4
    width = (bits + padding) // 4
    return f"{fraction << padding:0{width}x}".rstrip("0") if width else ""


def _parse_magnitude(text: str, layout: FloatFormat) -> int:
    special = layout.largest_field << layout.significand_bits
    if text == "inf":
        return special
    if nan := _NAN.fullmatch(text):
        significand = int(nan[1], 16) if nan[1] else _quiet(layout)
        if not 0 < significand < 1 << layout.significand_bits:
            raise MilError(f"{text}: the payload does not fit {layout.name}")
        return special | significand
    return _round(_exact(text), text, layout)


def _exact(text: str) -> Fraction:
    """Return the number that a hexadecimal or decimal literal without sign names."""
    found, base, scale = _HEX_FLOAT.fullmatch(text), 16, 2
    if not found:
        found, base, scale = _DECIMAL_FLOAT.fullmatch(text), 10, 10
    if not found or len(text) > _LONGEST_NUMBER:
        raise MilError(f"{_shortened(text)}: expected a float such as 0x1.8p+1")
    whole, fraction, exponent = found[1], found[2] or "", int(found[3] or 0)
    if abs(exponent) > _LARGEST_EXPONENT:
        raise MilError(f"{text}: the exponent is out of range")
    return Fraction(int(whole + fraction, base)) * Fraction(scale) ** exponent / base ** len(fraction)


def _round(number: Fraction, text: str, layout: FloatFormat) -> int:
    """Return the exponent and significand fields of a number that is not negative, rounded to nearest even."""
    if not number:
        return 0
    power = max(_floor_log2(number), layout.least_power)
    # `round` of a Fraction is to even. A carry out of the significand runs into the exponent field, as it should.
    significand = round(number / Fraction(2) ** (power - layout.significand_bits))
    bits = ((power - layout.least_power) << layout.significand_bits) + significand
    if bits >> layout.significand_bits >= layout.largest_field:
        raise MilError(f"{text}: too large for {layout.name}")
    return bits


def _floor_log2(number: Fraction) -> int:
    estimate = number.numerator.bit_length() - number.denominator.bit_length()
    return estimate if Fraction(2) ** estimate <= number else estimate - 1


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNESCAPES = {escape[1]: char for char, escape in _ESCAPES.items()} | {"'": "'", "0": "\0", "a": "\a", "b": "\b"}
_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f]')
_ESCAPE = re.compile(r"((?:\\x[0-9a-fA-F]{2})+)|\\(.?)", re.DOTALL)


def format_string(text: str) -> str:
    """Return the literal of a string, with its quotes."""
    return f'"{_NEEDS_ESCAPE.sub(_escaped, text)}"'


def parse_string(literal: str) -> str:
    """Return the string of a literal with its quotes; raises MilError for an unknown escape.

    A run of \\xHH escapes is read as UTF-8 bytes.
    """
    inside = literal[1:-1]
    return _ESCAPE.sub(_unescaped, inside) if "\\" in inside else inside


def _escaped(char: re.Match[str]) -> str:
    return _ESCAPES.get(char[0]) or f"\\x{ord(char[0]):02x}"


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1]:
        try:
            return bytes.fromhex(escape[1].replace("\\x", "")).decode()
        except UnicodeDecodeError:
            raise MilError(f"{escape[1]}: not UTF-8") from None
    if escape[2] not in _UNESCAPES:
        raise MilError(f"\\{escape[2]}: not an escape of MIL strings")
    return _UNESCAPES[escape[2]]


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
