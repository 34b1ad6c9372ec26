"""Numbers and strings of `model.mil`: exact both ways."""

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.literals import FLOAT_FORMATS, format_float, format_string, parse_float, parse_string

PACKED = {"fp16": ("<e", "<H"), "fp32": ("<f", "<I"), "fp64": ("<d", "<Q")}
WIDTHS = {"fp16": 16, "bf16": 16, "fp32": 32, "fp64": 64}


def value_of(bits: int, name: str) -> float:
    if name == "bf16":
        return value_of(bits << 16, "fp32")
    float_code, bits_code = PACKED[name]
    return struct.unpack(float_code, struct.pack(bits_code, bits))[0]


@st.composite
def patterns(draw: st.DrawFn) -> tuple[int, str]:
    name = draw(st.sampled_from(sorted(WIDTHS)))
    return draw(st.integers(0, 2 ** WIDTHS[name] - 1)), name


@settings(deadline=None)
@given(patterns())
def test_every_bit_pattern_survives(pattern: tuple[int, str]) -> None:
    """Every float of every width, NaNs and zeros with their signs included, is read as it was written."""
    bits, name = pattern
    assert parse_float(format_float(bits, FLOAT_FORMATS[name]), FLOAT_FORMATS[name]) == bits


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_all_of_the_narrow_floats_survive(name: str) -> None:
    """The 65536 patterns of a 16-bit float, one by one."""
    layout = FLOAT_FORMATS[name]
    assert [parse_float(format_float(bits, layout), layout) for bits in range(1 << 16)] == list(range(1 << 16))


@settings(deadline=None)
@given(patterns())
def test_finite_literals_are_those_of_python(pattern: tuple[int, str]) -> None:
    """`float.fromhex` reads a literal as the very value, and no digit of it can be left out."""
    bits, name = pattern
    value, text = value_of(bits, name), format_float(bits, FLOAT_FORMATS[name])
    if not math.isfinite(value):
        return
    assert float.fromhex(text) == value
    assert math.copysign(1, float.fromhex(text)) == math.copysign(1, value)
    mantissa = text.removeprefix("-").split("p")[0]
    assert mantissa == "0x0" or mantissa.startswith("0x1")
    assert not mantissa.endswith((".", "0")) or mantissa == "0x0"


@settings(deadline=None)
@given(st.floats(width=32))
def test_python_hex_floats_are_read(value: float) -> None:
    """What `float.hex` writes is read as the same value."""
    layout = FLOAT_FORMATS["fp32"]
    bits = parse_float(value.hex(), layout)
    assert value_of(bits, "fp32") == value or (math.isnan(value) and math.isnan(value_of(bits, "fp32")))


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_literals_round_as_python_rounds(value: float) -> None:
    """A decimal of full precision is the double that Python reads."""
    text = repr(value)
    assert value_of(parse_float(text, FLOAT_FORMATS["fp64"]), "fp64") == float(text)


@settings(deadline=None)
@given(st.floats(-65504, 65504))
def test_too_many_digits_round_to_nearest_even(value: float) -> None:
    """A literal with more digits than fp16 has is rounded as the struct module rounds it."""
    (expected,) = struct.unpack("<H", struct.pack("<e", value))
    assert parse_float(value.hex(), FLOAT_FORMATS["fp16"]) == expected


@pytest.mark.parametrize(
    ("value", "literal"),
    [(2.0**-24, "0x1p-24"), (0.0, "0x0p+0"), (10000.0, "0x1.388p+13"), (-math.inf, "-inf"), (math.nan, "nan")],
)
def test_literals_seen_in_real_bundles(value: float, literal: str) -> None:
    """Literals of fp16 as Apple's compiler printed them in the fixtures; the spelling of NaN is ours."""
    (bits,) = struct.unpack("<H", struct.pack("<e", value))
    assert format_float(bits, FLOAT_FORMATS["fp16"]) == literal


def test_nan_payloads_are_spelled() -> None:
    """A NaN other than the quiet one names its significand field."""
    assert format_float(0xFE01, FLOAT_FORMATS["fp16"]) == "-nan(0x201)"


@pytest.mark.parametrize(
    "text",
    ["", "0x", "1.2.3", "0x1p", "nan(0x0)", "nan(0xfff)", "0x1p+16", "70000", "0x1p+999999999", "1e999999999", "١"],
)
def test_what_is_no_float_is_refused(text: str) -> None:
    """Malformed literals, and those beyond the type, are errors; a huge exponent is one at once."""
    with pytest.raises(MilError):
        parse_float(text, FLOAT_FORMATS["fp16"])


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_string_survives(text: str) -> None:
    """Quotes, backslashes, controls and letters of any script are read as they were written."""
    literal = format_string(text)
    assert parse_string(literal) == text
    assert "\n" not in literal


def test_byte_escapes_are_read_as_utf8() -> None:
    """A run of byte escapes is UTF-8; bytes that are not, and unknown escapes, are refused."""
    assert parse_string(r'"\xc3\xa9\x41"') == "éA"
    for bad in (r'"\xc3"', r'"\q"'):
        with pytest.raises(MilError):
            parse_string(bad)
