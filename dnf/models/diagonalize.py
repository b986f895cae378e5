"""Linear maps that make covariances diagonal: exactly for one or two matrices, approximately for more."""

from __future__ import annotations

import logging

import numpy as np
import scipy.linalg

log = logging.getLogger(__name__)

MOST_STEPS = 200
SMALL_GRADIENT = 1e-4  # correlation; smaller than sampling errors
LEAST_CURVATURE = 1e-4


def whiten(covariance: np.ndarray) -> np.ndarray:
    """V ``(D, D)`` such that V' C V is the identity, its columns along the eigenvectors of C ``(D, D)``."""
    values, vectors = scipy.linalg.eigh(covariance)
    return in_order(vectors / np.sqrt(values))


def diagonalize(covariances: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """V ``(D, D)`` such that every V' C_k V is diagonal or nearly diagonal, and their mean has ones on its diagonal.

    For two matrices V has their generalized eigenvectors. For more it minimises the divergence from
    diagonal matrices of Pham, "Joint approximate diagonalization of positive definite Hermitian matrices", SIAM J.
    Matrix Anal. Appl. 22 (2001), which for Gaussian classes is the loss of likelihood. The steps are those of Ablin,
    Cardoso and Gramfort, "Beyond Pham's algorithm for joint diagonalization", arXiv:1811.11433, which change all pairs of
    dims at once by matrix products.

    Args:
        covariances: C_k ``(K, D, D)``, positive definite.
        shares: weights of the classes ``(K,)``, with sum 1.
    """
    if len(covariances) == 2:
        v = scipy.linalg.eigh(covariances[0], covariances[1])[1]
    else:
        v = nearly_diagonalize(covariances, shares)
    variances = shares @ np.stack([diagonal_of(v, covariance) for covariance in covariances])
    return in_order(v / np.sqrt(variances))


def diagonal_of(v: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Diagonal ``(D,)`` of V' C V."""
    return np.einsum("ij,ij->j", v, covariance @ v)


def in_order(v: np.ndarray) -> np.ndarray:
    """The columns of V in descending order of the variance of x = z inverse(V) from each dim of z.

    The largest entry of each column is positive, so that rounding does not change its sign.
    """
    v = v[:, np.argsort(-np.square(np.linalg.inv(v)).sum(1), kind="stable")]
    return v * np.sign(v[np.abs(v).argmax(0), np.arange(v.shape[1])])


def nearly_diagonalize(covariances: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The V of ``diagonalize`` for any number of matrices, with columns of any length and order."""
    v = whiten(np.tensordot(shares, covariances, 1))
    current, changed = mapped(v, covariances, np.empty_like(covariances)), np.empty_like(covariances)
    eye, loss = np.eye(len(v)), loss_of(current, shares)
    for _ in range(MOST_STEPS):
        move, size = newton_step(current, shares)
        if size < SMALL_GRADIENT:
            break
        for scale in 0.5 ** np.arange(20):
            turn = (eye + scale * move).T
            reached = loss_of(mapped(turn, current, changed), shares)
            if reached - np.linalg.slogdet(turn)[1] < loss:
                break
        else:
            break
        v, current, changed, loss = v @ turn, changed, current, reached
    found = "" if size < SMALL_GRADIENT else f", stopped before its end with a gradient of {size:.1e}"
    level = logging.WARNING if found else logging.INFO
    left = divergence(current, shares)
    log.log(level, "joint diagonalization of %d classes: divergence %.4g nats%s", len(current), left, found)
    return v


def mapped(v: np.ndarray, matrices: np.ndarray, out: np.ndarray) -> np.ndarray:
    """V' C V of each matrix C ``(K, D, D)``, in ``out``."""
    for matrix, place in zip(matrices, out):
        np.matmul(v.T, matrix @ v, out=place)
    return out


def loss_of(matrices: np.ndarray, shares: np.ndarray) -> float:
    """The divergence of V' C V from diagonal matrices, nats, without log|det V| and the terms of C alone."""
    return float(0.5 * shares @ np.log(np.diagonal(matrices, axis1=1, axis2=2)).sum(1))


def divergence(matrices: np.ndarray, shares: np.ndarray) -> float:
    """Mean over the matrices ``(K, D, D)`` of KL(N(0, C) || N(0, diag C)), nats; 0 if all are diagonal."""
    return loss_of(matrices, shares) - float(0.5 * shares @ np.linalg.slogdet(matrices)[1])


def newton_step(matrices: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float]:
    """E ``(D, D)``, the step C -> (I + E) C (I + E)', and the largest part of the gradient (arXiv:1811.11433, sec. 3).

    Near diagonal matrices the Hessian is block diagonal, with a 2 x 2 block [[a, 1], [1, b]] for each pair of dims.
    """
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    gradient = np.einsum("k,kij,ki->ij", shares, matrices, 1 / diagonals)
    np.fill_diagonal(gradient, 0.0)
    curvature = (shares[:, None] / diagonals).T @ diagonals  # a_ij: mean of C_jj / C_ii
    mean = (curvature + curvature.T) / 2
    least = mean - np.sqrt(((curvature - curvature.T) / 2) ** 2 + 1)
    curvature += np.maximum(LEAST_CURVATURE - least, 0)
    step = (gradient.T - curvature.T * gradient) / (curvature * curvature.T - 1)
    np.fill_diagonal(step, 0.0)
    return step, np.abs(gradient).max()
