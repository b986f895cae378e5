"""The fixed linear first layer."""

import torch
from flow_checks import jacobian_logdet, vectors

from dnf.models.decorrelate import Decorrelate


def test_it_is_affine_with_its_logdet():
    layer, x, mean, matrix = Decorrelate(4), vectors(7, 4), vectors(1, 4)[0], vectors(4, 4, seed=5)
    layer.set(mean, matrix)
    z, logdet = layer(x)
    torch.testing.assert_close(z, (x - mean) @ matrix)
    torch.testing.assert_close(logdet, jacobian_logdet(layer, x))
    back, inverse = layer.inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse, jacobian_logdet(layer.inverse, z))
    assert not list(layer.parameters()) and set(layer.state_dict()) == {"mean", "matrix", "logdet"}


def test_float32_vectors_lose_nothing_to_directions_of_hardly_any_variance_nor_to_bfloat16():
    """As spectra of overlapping windows: deviations from the mean are large, and some combinations of them tiny."""
    rotation = torch.linalg.qr(vectors(50, 50, seed=3))[0]
    scales = torch.logspace(1, -3, 50, dtype=torch.float64)
    x = (vectors(100, 50, scale=1.0) * scales @ rotation.T).float()
    layer = Decorrelate(50)
    layer.set(torch.zeros(50), rotation / scales)
    exact = x.double() @ (rotation / scales)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, logdet = layer(x)
    assert z.dtype == logdet.dtype == torch.float32
    torch.testing.assert_close(z, exact.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer.inverse(z)[0], x, rtol=1e-5, atol=1e-5)
