"""The fixed first layer of every model."""

import pytest
import torch
from flow_checks import jacobian_logdet, vectors

from dnf.models.standardize import Standardize


@pytest.mark.parametrize("frames", (1, 3))
def test_standardize_is_affine_with_its_logdet(frames):
    mean, std = torch.tensor([1.0, -2.0, 5.0]).double(), torch.tensor([0.5, 3.0, 2.0]).double()
    layer, x = Standardize(3 * frames).double(), vectors(7, 3 * frames)
    layer.set(mean, std)
    z, logdet = layer(x)
    torch.testing.assert_close(z.view(7, frames, 3), (x.view(7, frames, 3) - mean) / std)
    torch.testing.assert_close(logdet, jacobian_logdet(layer, x))
    back, inverse = layer.inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse, jacobian_logdet(layer.inverse, z))
    assert not list(layer.parameters()) and set(layer.state_dict()) == {"mean", "std"}
