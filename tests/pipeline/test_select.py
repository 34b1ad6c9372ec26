import pytest

from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.select import by_patterns, by_width, width
from pipeline.types import QuernError, Variant


@pytest.fixture(scope="module")
def variants() -> tuple[Variant, ...]:
    return read_matrix(ROOT / "variants.yaml").variants


def test_globs_select_by_id(variants: tuple[Variant, ...]) -> None:
    """A pattern is matched against `<checkpoint>/<variant>`."""
    assert [v.id for v in by_patterns(variants, ["segmentation-3.0/w?"])] == [
        "segmentation-3.0/w8", "segmentation-3.0/w6", "segmentation-3.0/w4",
    ]  # fmt: skip


def test_a_pattern_that_matches_nothing_is_an_error(variants: tuple[Variant, ...]) -> None:
    """A misspelt name must not build nothing and exit 0."""
    with pytest.raises(QuernError, match=r"no variant matches 'segmentation-3.0/w66'; did you mean"):
        by_patterns(variants, ["segmentation-3.0/*", "segmentation-3.0/w66"])


def test_a_width_selects_its_palettes(variants: tuple[Variant, ...]) -> None:
    """PALETTIZE_NBITS=6 is the palettized set at that width, 0 the unpalettized one, unset all."""
    assert {width(v) for v in by_width(variants, "6")} == {6}
    assert {width(v) for v in by_width(variants, "0")} == {None}
    assert by_width(variants, None) == by_width(variants, "") == list(variants)


def test_an_undeclared_width_is_built_without_limits_on_parity(variants: tuple[Variant, ...]) -> None:
    """Limits were set for other widths; the ones that hold for any width stay."""
    found = by_width(variants, "2")
    assert "segmentation-3.0/w2" in [v.id for v in found]
    assert {width(v) for v in found} == {2}
    assert len({v.id for v in found}) == len(found)
    assert not [limit for v in found for limit in v.limits if limit.measurement.startswith("parity.")]
    assert all([limit for limit in v.limits if limit.measurement == "alias.bundle"] for v in found)


@pytest.mark.parametrize("nbits", ["5", "-1", "16", "six", "6.0"])
def test_a_width_no_palette_can_have_is_an_error(variants: tuple[Variant, ...], nbits: str) -> None:
    """The sentence names the variable and what it was."""
    with pytest.raises(QuernError, match=f"PALETTIZE_NBITS={nbits}: "):
        by_width(variants, nbits)
