"""Small programs, built by coremltools once per session and saved as it saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def ct() -> Any:
    """The full coremltools, imported once: it takes seconds."""
    import logging

    import coremltools

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    return coremltools


@pytest.fixture(scope="session")
def save(ct: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a MIL program, or a model of coremltools, as a package."""

    def saved(program: Any, name: str, target: str = "iOS17", **options: Any) -> Path:
        path = tmp_path_factory.mktemp(name) / f"{name}.mlpackage"
        model = program
        if not isinstance(program, ct.models.MLModel):
            options.setdefault("compute_precision", ct.precision.FLOAT32)
            model = ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, target),
                skip_model_load=True,
                **options,
            )
        model.save(str(path))
        return path

    return saved


@pytest.fixture(scope="session")
def small_network(ct: Any, save: Callable[..., Path]) -> Path:
    """x (1, 2, 10) fp32 → fp16 inside: conv 2→4 of width 3, relu, linear 8→5, softmax → y (1, 4, 5) fp32."""
    mb = ct.converters.mil.Builder
    generator = np.random.default_rng(5)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 2, 10))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        kernel = generator.standard_normal((4, 2, 3)).astype(np.float32)
        matrix = generator.standard_normal((5, 8)).astype(np.float32)
        hidden = mb.relu(x=mb.conv(x=x, weight=kernel, name="convolved"), name="hidden")  # (1, 4, 8)
        logits = mb.linear(x=hidden, weight=matrix, bias=np.ones(5, np.float32), name="logits")
        return mb.softmax(x=logits, axis=-1, name="y")

    return save(program, "small_network", compute_precision=ct.precision.FLOAT16)
