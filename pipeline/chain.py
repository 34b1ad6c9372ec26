"""Torch modules run one after the other, connected by name, as one module that can be traced."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Link:
    """A module and the names of what it takes and returns, in the order of its arguments and results."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Chain(nn.Module):
    """Takes the tensors called `inputs` and returns those called `outputs`, each made by a link or given."""

    def __init__(self, links: Sequence[Link], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.links = tuple(links)
        for index, link in enumerate(links):  # a list of modules would be traced under another name than it has
            self.add_module(f"stage_{index}", link.module)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)

    def forward(self, *arguments: Tensor) -> Tensor | tuple[Tensor, ...]:
        known: dict[str, Tensor] = dict(zip(self.inputs, arguments, strict=True))
        for index, link in enumerate(self.links):
            made = self.get_submodule(f"stage_{index}")(*(known[name] for name in link.inputs))
            known |= zip(link.outputs, (made,) if isinstance(made, torch.Tensor) else made, strict=True)
        found = tuple(known[name] for name in self.outputs)
        return found if len(found) > 1 else found[0]
