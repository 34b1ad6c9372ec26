"""Do embeddings still point where upstream's point? Clustering reads their directions, so that is what is compared.

The output that is compared is the one whose unit is embedding; its last axis is the embedding, every row of the others
one case.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.types import Measurement, Subject
from verify.ladder.rungs import Ladder, climbed, difference, ladder, pair, rows, top

MEASURES = {
    "rewrite": "share of norm",
    "convert": "share of norm",
    "precision": "share of norm",
    "max_difference": "share of norm",
    "cosine": "cosine",
    "cosine_worst": "cosine",
}
NEEDS = ("outputs",)


def measure(subject: Subject) -> list[Measurement]:
    """Return the differences between neighbouring rungs, and the agreement of the last with the topmost.

    rewrite, convert, precision   largest difference of a component between two neighbouring rungs, as a share of the
                                  largest norm of an embedding of the topmost rung
    max_difference                the same between the ends of the ladder
    cosine, cosine_worst          cosine of the angle between the ends of the ladder, on average and where it is least;
                                  two embeddings of zeros agree, one of zeros and another do not
    """
    tensor = next(t for t in subject.outputs if t.unit == "embedding")
    found = rows(ladder(subject.rungs, tensor.name), rank=1)
    scaled = _scaled(found)
    ends = difference("max_difference", "share of norm", scaled, top(found), "declared")
    return [*climbed("share of norm", scaled), ends, *_cosines(found)]


def _scaled(found: Ladder) -> Ladder:
    """Return all rungs divided by the largest norm of the topmost, so that a difference has a meaning of its own."""
    values = found[top(found)]
    if isinstance(values, str):
        return found
    largest = max(float(np.linalg.norm(row)) for row in values.values()) or 1.0
    return {
        name: rung if isinstance(rung, str) else {row: array / largest for row, array in rung.items()}
        for name, rung in found.items()
    }


def _cosines(found: Ladder) -> list[Measurement]:
    against = top(found)
    ends = pair(found, against, "declared")
    if isinstance(ends, str):
        return [Measurement(name, None, "cosine", ends) for name in ("cosine", "cosine_worst")]
    by_row = {row: _cosine(ends[0][row], ends[1][row]) for row in ends[0]}
    worst = _least(by_row)
    detail = {"against": against, "embeddings": len(by_row)}
    return [
        Measurement("cosine", float(np.mean(list(by_row.values()))), "cosine", f"against {against}", detail),
        Measurement("cosine_worst", by_row[worst], "cosine", worst, {"against": against, "window": worst}),
    ]


def _least(by_row: Mapping[str, float]) -> str:
    return min(by_row, key=lambda row: -np.inf if np.isnan(by_row[row]) else by_row[row])


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    norms = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if norms == (0, 0):
        return 1.0
    return float(one @ other / (norms[0] * norms[1])) if all(norms) else 0.0
