"""Files beside an artifact are part of what its contract is held against."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures import FIXTURES, needs_fixtures
from tests.pipeline.conftest import Ran

pytestmark = [needs_fixtures, pytest.mark.slow]

MATRIX = """
checkpoints:
  plda-community-1: {network: plda, licence: CC-BY-4.0}
  embedding-distance: {network: cosine_distance, licence: none}
variants:
  plda:
    checkpoint: [plda-community-1]
    file: PldaRho
    form: {batch: [1, 32]}
    convert: {precision: fp32}
    axes: {precision: {fp32: {}}}
    checks: [contract]
    limits: {contract.findings: {most: 0, unit: findings, reason: an app needs all of it}}
  impostor: # another network by the name of one that apps load with a file beside it
    checkpoint: [embedding-distance]
    file: PldaRho
    form: {queries: 3, bank: 64}
    axes: {kind: {impostor: {}}}
    checks: [contract]
    limits: {contract.findings: {most: 0, unit: findings, reason: an app needs all of it}}
"""


def test_the_contract_of_a_variant_looks_at_its_sidecars(tmp_path: Path, quern: Callable[..., Ran]) -> None:
    """PLDA has its parameters beside it; what has none and is called the same is refused for that too."""
    (tmp_path / "variants.yaml").write_text(MATRIX)
    out = tmp_path / "out"
    ran = quern("--matrix", tmp_path / "variants.yaml", "--out", out, "--weights-dir", FIXTURES, "--jobs", 1)
    assert ran.status == 1, ran.err

    def found(variant: str) -> dict:
        [check] = json.loads((out / variant / "checks.json").read_text())
        return check

    assert (found("plda-community-1/fp32")["outcome"], found("plda-community-1/fp32")["note"]) == ("pass", "")
    assert (out / "plda-community-1" / "fp32" / "plda-parameters.json").is_file()
    assert "companion: plda-parameters.json: expected beside the model" in found("embedding-distance/impostor")["note"]
