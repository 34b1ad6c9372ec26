"""Probabilistic linear discriminant analysis: embeddings in the space where speakers vary along the axes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from converters.networks.processors.cosine import length, unit


@dataclass(frozen=True)
class Diagonal:
    """The space of VBx: within speakers the covariance is the identity, between them it is diagonal.

    transform   (128, 128) float64, a row for each axis
    psi         (128,) float64, the covariance between speakers along each axis, the largest first
    """

    transform: np.ndarray
    psi: np.ndarray


def diagonal(tr: np.ndarray, psi: np.ndarray) -> Diagonal:
    """Return the joint diagonalisation of a PLDA's covariances, as pyannote.audio's `vbx_setup` has it.

    There, W = (TᵀT)⁻¹ and B = (TᵀΨ⁻¹T)⁻¹ with T = `tr` and Ψ = diag(`psi`), and the axes are the generalised
    eigenvectors v of Bv = ψWv, scaled to vᵀWv = 1. Now T W Tᵀ = I and T B Tᵀ = Ψ: these are the rows of T, up to their
    signs, and their eigenvalues are `psi`. So axes and eigenvalues are taken as they stand in the checkpoint, sorted,
    and the decomposition decides nothing but the signs: rounding that differs between machines changes no bit.
    The signs are those of LAPACK's divide-and-conquer solver, which upstream calls too.
    """
    order = np.argsort(-psi, kind="stable")
    within = np.linalg.inv(tr.T @ tr)
    between = np.linalg.inv((tr.T / psi) @ tr)
    whitening = np.linalg.inv(np.linalg.cholesky(within))
    _, vectors = np.linalg.eigh(whitening @ between @ whitening.T)  # a column for each eigenvalue, the smallest first
    axes = (whitening.T @ vectors).T[::-1]
    along = np.einsum("ij,jk,ik->i", axes, within, tr[order])  # ±1
    return Diagonal(tr[order] * np.where(along < 0, -1.0, 1.0)[:, np.newaxis], psi[order])


class PldaRho(nn.Module):
    """Turns embeddings (batch, 256) into features (batch, 128) of the diagonal space.

    Centre, scale to length one, project (LDA), centre, scale again, and go over to the diagonal space. What stands
    around a product is folded into it, in float64, and rounded once. The first centring too, behind the projection:
    some directions weigh 200 times what others do, and sums of single precision then keep the more digits, the
    shorter the embedding is.
    """

    embedding_mean: torch.Tensor
    lda: torch.Tensor
    projected_mean: torch.Tensor
    lda_mean: torch.Tensor
    transform: torch.Tensor
    offset: torch.Tensor

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        """state   the tensors of `converters.models.plda.SHAPES`, float64"""
        super().__init__()
        wide, narrow = state["lda"].shape
        transform = diagonal(state["tr"], state["psi"]).transform.T
        constants = {
            "embedding_mean": state["mean1"],
            "lda": np.sqrt(wide) * state["lda"],
            "projected_mean": state["mean1"] @ (np.sqrt(wide) * state["lda"]),
            "lda_mean": state["mean2"],
            "transform": np.sqrt(narrow) * transform,
            "offset": state["mu"] @ transform,
        }
        for name, constant in constants.items():
            self.register_buffer(name, torch.from_numpy(constant.astype(np.float32)), persistent=False)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        projected = (embeddings @ self.lda - self.projected_mean) / length(embeddings - self.embedding_mean)
        return unit(projected - self.lda_mean) @ self.transform - self.offset
