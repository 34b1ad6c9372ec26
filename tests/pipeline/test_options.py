from dataclasses import dataclass
from typing import Any, Literal

import pytest

from pipeline.options import Complaints, build


@dataclass(frozen=True)
class Options:
    nbits: int
    share: float = 0.5
    batch: int | tuple[int, int] = 1
    mode: Literal["fast", "exact"] = "exact"
    names: tuple[str, ...] = ()
    deep: bool = False

    def __post_init__(self) -> None:
        if self.nbits > 8:
            raise ValueError(f"nbits: {self.nbits}; expected at most 8")


def made(**written: Any) -> tuple[Options | None, list[str]]:
    complaints = Complaints()
    return build(Options, written, "optimize[0].palettize", complaints), complaints


def test_options_are_built_with_their_defaults() -> None:
    """What is not written has its default."""
    assert made(nbits=6) == (Options(6), [])


def test_a_list_in_yaml_is_a_tuple() -> None:
    """A pair and a list of any length are read as tuples."""
    assert made(nbits=6, batch=[1, 32], names=["a", "b"]) == (Options(6, batch=(1, 32), names=("a", "b")), [])


def test_a_whole_number_is_a_number() -> None:
    """`share: 1` means 1.0."""
    options, _ = made(nbits=6, share=1)
    assert options is not None
    assert isinstance(options.share, float)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"nbits": 6, "nbit": 6}, "optimize[0].palettize.nbit: unknown option; did you mean 'nbits'?"),
        ({}, "optimize[0].palettize.nbits: missing; expected a whole number"),
        ({"nbits": "6"}, "optimize[0].palettize.nbits: expected a whole number, found '6'"),
        ({"nbits": True}, "optimize[0].palettize.nbits: expected a whole number, found True"),
        ({"nbits": 6, "mode": "best"}, "optimize[0].palettize.mode: expected fast or exact, found 'best'"),
        ({"nbits": 6, "deep": 1}, "optimize[0].palettize.deep: expected true or false, found 1"),
        (
            {"nbits": 6, "batch": [1, 2, 3]},
            "optimize[0].palettize.batch: expected a whole number or a list of 2, each a whole number, found [1, 2, 3]",
        ),
        ({"nbits": 6, "names": [1]}, "optimize[0].palettize.names: expected a list, each text, found [1]"),
        ({"nbits": 9}, "optimize[0].palettize: nbits: 9; expected at most 8"),
    ],
)
def test_what_does_not_fit_is_complained_of(written: dict, complaint: str) -> None:
    """One sentence: where, what was expected, what was found."""
    assert made(**written) == (None, [complaint])


def test_everything_wrong_is_said_at_once() -> None:
    """Two mistakes, two complaints."""
    assert len(made(nbit=6, share="much")[1]) == 3  # unknown, missing, wrong type
