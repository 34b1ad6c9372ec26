"""Attention: coremltools' `iOS18/transformers.py`."""

import math

import torch

from mil.ops.arguments import Tensor


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(query·keyᵀ / √E + mask)·value.

    query      (batch, …, L, E)
    key        (batch, …, S, E)
    value      (batch, …, S, EV)
    attn_mask  broadcasts to (batch, …, L, S); bool says which elements take part, floats are added to the scores
    returns    (batch, …, L, EV)

    A row in which no element takes part is NaN, as the definition has it. PyTorch's own function of that name, which
    MIL cites as its source, says 0 there since version 2.5: a program that relies on it must mask the result.
    """
    scores = torch.matmul(query, key.mT).div_(math.sqrt(query.shape[-1]))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores.masked_fill_(attn_mask.logical_not(), -torch.inf)
    elif attn_mask is not None:
        scores.add_(attn_mask)
    return torch.matmul(torch.softmax(scores, -1), value)
