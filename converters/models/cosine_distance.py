"""How far embeddings are from those of a bank; it has no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.networks.processors import speech
from converters.networks.processors.sizes import Size, axis, checked_size, lengths
from converters.networks.wespeaker_layout import DIMENSION
from pipeline.types import Arrays, Example, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.processors.cosine_distance import CosineDistance

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Form:
    """What a variant may choose: rows, each a number, or the least and the most where the caller chooses.

    queries   embeddings that are looked up
    bank      embeddings that are looked through
    """

    queries: Size = 3
    bank: Size = 64

    def __post_init__(self) -> None:
        for name in ("queries", "bank"):
            object.__setattr__(self, name, checked_size(name, getattr(self, name)))


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about distances that are none."""
    return {"distance": "1 - cosine", "distance_of_zero_row": "1", "distance_of_masked_row": "2"}


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return queries and bank, and for each row of them whether it is in use, float32, 0 or 1."""
    queries, bank = axis(form.queries), axis(form.bank)
    return (
        Tensor("queries", ("query", "dimension"), (queries, DIMENSION), "float32", "embedding"),
        Tensor("bank", ("row", "dimension"), (bank, DIMENSION), "float32", "embedding"),
        Tensor("query_mask", ("query",), (queries,), "float32", "0 or 1"),
        Tensor("bank_mask", ("row",), (bank,), "float32", "0 or 1"),
    )


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: 1 − cosine of every query and row; 2, the largest there is, where one is not in use."""
    shape = (axis(form.queries), axis(form.bank))
    return (Tensor("distances", ("query", "row"), shape, "float32", "cosine distance"),)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: there are none to train."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: there are none to stand in for."""
    return {}


def load(state: Arrays, form: Form) -> "CosineDistance":
    """Return our processor."""
    from converters.networks.processors.cosine_distance import CosineDistance

    return CosineDistance().eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return the definition, in float64."""

    def run(arrays: Arrays) -> Arrays:
        found = np.full((len(arrays["queries"]), len(arrays["bank"])), 2.0)
        used = np.ix_(arrays["query_mask"] == 1, arrays["bank_mask"] == 1)
        found[used] = distances(arrays["queries"][used[0].ravel()], arrays["bank"][used[1].ravel()])
        return {"distances": found}

    return run


def distances(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Return 1 − cosine (query, row), float64; 1 where one of the two is zero."""
    one, other = queries.astype(np.float64), bank.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1)[:, np.newaxis] * np.linalg.norm(other, axis=1)
    return 1 - np.divide(one @ other.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield seeded embeddings and the edges, whatever the recordings; ranges at their least and at their most.

    full      every row in use
    partly    half of the bank in use, and all queries but the last; what is not holds no numbers
    unused    no row of the bank
    empty     a bank of zeros
    zero      queries of zeros
    same      rows that are queries, and their opposites
    scaled    rows of very different length
    """
    for queries, bank in product(lengths(form.queries), lengths(form.bank)):
        for name, inputs in _cases(queries, bank).items():
            yield Example(f"{name}_{queries}x{bank}", inputs)


def _cases(queries: int, bank: int) -> dict[str, Arrays]:
    plain = {
        "queries": speech.embeddings(queries, seed=1),
        "bank": speech.embeddings(bank, seed=2),
        "query_mask": np.ones(queries, np.float32),
        "bank_mask": np.ones(bank, np.float32),
    }
    half = np.arange(bank) % 2 == 0
    sign = np.where(half, np.float32(1), np.float32(-1))[:, np.newaxis]
    scale = np.float32(10) ** (np.arange(queries) % 5 - 2).astype(np.float32)[:, np.newaxis]
    used = np.arange(queries) < max(1, queries - 1)
    partly = {
        "queries": np.where(used[:, np.newaxis], plain["queries"], np.float32(np.nan)),
        "bank": np.where(half[:, np.newaxis], plain["bank"], np.float32(np.inf)),
        "query_mask": used.astype(np.float32),
        "bank_mask": half.astype(np.float32),
    }
    return {
        "full": plain,
        "partly": plain | partly,
        "unused": plain | {"bank_mask": np.zeros(bank, np.float32)},
        "empty": plain | {"bank": np.zeros_like(plain["bank"])},
        "zero": plain | {"queries": np.zeros_like(plain["queries"])},
        "same": plain | {"bank": sign * np.resize(plain["queries"], plain["bank"].shape)},
        "scaled": plain | {"queries": scale * plain["queries"]},
    }
