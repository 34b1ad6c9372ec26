"""Small programs, built by coremltools once per session and saved as it saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
