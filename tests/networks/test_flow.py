"""The flow against its own inverse and the determinant of its Jacobian."""

import math

import pytest
import torch

from intarsia.networks.flow import Flow


@pytest.mark.parametrize("latent", [2, 5, 8])
def test_the_flow_goes_back_where_it_came_from_and_its_density_adds_up(latent: int) -> None:
    torch.manual_seed(0)
    flow = Flow(latent, 4, 16)
    noise = torch.randn(50, latent)
    torch.testing.assert_close(flow(noise), noise)  # the identity at the start
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    z = flow(noise)
    assert not torch.allclose(z, noise, atol=0.1)
    torch.testing.assert_close(flow.inverse(z), noise, rtol=1e-4, atol=1e-4)
    volume = torch.stack([torch.linalg.slogdet(torch.autograd.functional.jacobian(
        lambda one: flow(one.unsqueeze(0))[0], each))[1] for each in noise])  # fmt: skip
    normal = -0.5 * (noise.square() + math.log(2 * math.pi)).sum(dim=1)
    torch.testing.assert_close(flow.log_density(z), normal - volume, rtol=1e-3, atol=1e-3)


def test_every_number_of_the_latent_is_moved_by_the_flow() -> None:
    changed = {int(i) for each in Flow(5, 2, 4).couplings for i in each.order[each.kept :]}
    assert changed == set(range(5))
