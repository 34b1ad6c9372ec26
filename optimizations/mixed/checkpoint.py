"""What a long run has come to, so that the next one goes on from there if it is killed."""

from collections.abc import Mapping
from pathlib import Path

import torch

_FILE, _DRAFT, _DONE = "checkpoint.safetensors", "draft.safetensors", "done"


def keep(folder: Path, done: int, tensors: Mapping[str, torch.Tensor]) -> None:
    """Keep tensors, and how many steps are done, in a folder in place of what was kept there; whole or not at all."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / _DRAFT, {_DONE: str(done)})
    (folder / _DRAFT).rename(folder / _FILE)


def kept(folder: Path) -> tuple[int, dict[str, torch.Tensor]] | None:
    """Return what `keep` left in a folder; None where there is nothing."""
    from safetensors import safe_open

    if not (folder / _FILE).exists():
        return None
    with safe_open(folder / _FILE, "pt") as file:
        return int(file.metadata()[_DONE]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def drop(folder: Path) -> None:
    """Remove what was kept in a folder."""
    for name in (_FILE, _DRAFT):
        (folder / name).unlink(missing_ok=True)
