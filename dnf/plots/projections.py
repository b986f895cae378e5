"""From hundreds of latent dims to the two of a picture."""

from __future__ import annotations

from typing import NamedTuple

import torch

from dnf.metrics.figures import MOST_CLASSES


class Plane(NamedTuple):
    """Projection to two dims: (d, 2) axes, and what each axis is."""

    axes: torch.Tensor
    names: tuple[str, str]


def spread(labels: torch.Tensor, limit: int) -> torch.Tensor:
    """Rows of a sample with as many of each class as ``limit`` and the class allow, evenly spaced within each class.

    Of more than ``MOST_CLASSES`` classes, rows are evenly spaced over all.

    Args:
        labels: (M,) class of each row.
        limit: rows wanted in all; what a small class leaves goes to the others.

    Returns:
        (m,) ascending row numbers, m <= limit (but for at least one row of each class).
    """
    numbers = labels.unique().tolist()
    if len(numbers) > MOST_CLASSES:
        return torch.arange(min(limit, len(labels))) * len(labels) // min(limit, len(labels))
    classes = sorted((torch.nonzero(labels == k).flatten() for k in numbers), key=len)
    chosen, left = [torch.zeros(0, dtype=torch.long)], limit
    for rank, rows in enumerate(classes):
        take = min(len(rows), max(1, left // (len(classes) - rank)))
        left -= take
        chosen.append(rows[torch.arange(take) * len(rows) // take])
    return torch.cat(chosen).sort().values


def separating_plane(x: torch.Tensor, labels: torch.Tensor) -> Plane:
    """The plane that shows the classes furthest apart, scaled to a within-class deviation of 1.

    The axes are Fisher's linear discriminants of equally weighted classes. Two classes have one, a single class
    has none; what is missing is filled up with the direction of largest within-class variance that is
    uncorrelated, within class, with the axes so far.

    Args:
        x: (N, d) latents, d >= 2.
        labels: (N,) class of each row.
    """
    x, d = x.double(), x.shape[1]
    _, group, counts = labels.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), d, dtype=x.dtype).index_add(0, group, x) / counts[:, None]
    rest = (x - means[group]) / (counts * len(counts)).sqrt()[group, None]
    within = rest.T @ rest
    within = within + torch.eye(d, dtype=x.dtype) * (1e-6 * within.trace() / d + 1e-12)
    factor = torch.linalg.cholesky(within)
    between = torch.linalg.solve_triangular(factor, (means - means.mean(0)).T, upper=False)
    found = min(len(counts) - 1, 2)
    vectors = torch.linalg.eigh(between @ between.T).eigenvectors.flip(1)[:, :found]
    axes = torch.linalg.solve_triangular(factor.T, vectors, upper=True)
    names = [f"linear discriminant {i + 1}" for i in range(found)]
    for name in ("largest variance", "next largest variance")[: 2 - found]:
        basis = torch.linalg.qr(within @ axes).Q
        rest = torch.eye(d, dtype=x.dtype) - basis @ basis.T
        axis = torch.linalg.eigh(rest @ within @ rest).eigenvectors[:, -1:]
        axes = torch.cat([axes, axis / (axis.T @ within @ axis).sqrt()], 1)
        names.append(name)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # an eigenvector has no sign of its own
    return Plane(axes.to(torch.float32), (names[0], names[1]))


def tsne_map(x: torch.Tensor, perplexity: float, iterations: int, seed: int) -> torch.Tensor:
    """t-SNE of (m, d) points to (m, 2), from their principal components on; few points get a smaller perplexity.

    One thread: the map depends on their number, and on a busy machine several of them are slower.
    """
    from sklearn.manifold import TSNE  # slow to import, and only this needs it
    from threadpoolctl import threadpool_limits

    perplexity = min(float(perplexity), (len(x) - 1) / 3)
    embedding = TSNE(perplexity=perplexity, max_iter=iterations, init="pca", random_state=seed)
    with threadpool_limits(1):
        return torch.from_numpy(embedding.fit_transform(x.numpy()))
