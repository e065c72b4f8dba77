"""Halving and doubling by convolution."""

import pytest
import torch

from intarsia.networks.convolutional import doubling, group_norm, halving, padded


@pytest.mark.parametrize("channels", [1, 4, 17, 32, 50, 96, 250])
def test_any_number_of_channels_can_be_normalised(channels: int) -> None:
    norm = group_norm(channels)
    assert channels % norm.num_groups == 0
    assert norm(torch.rand(2, channels, 3, 3)).isfinite().all()


def test_sizes_are_halved_and_doubled() -> None:
    x = torch.rand(2, 3, 8, 14)
    assert halving(3, 5)(x).shape == (2, 5, 4, 7)
    assert doubling(3, 5)(x).shape == (2, 5, 16, 28)
    assert len(halving(3, 5, normalised=False)) == len(halving(3, 5)) - 1


def test_a_picture_does_not_see_its_neighbours_in_the_batch() -> None:
    brick = torch.nn.Sequential(halving(3, 32), doubling(32, 3))
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(brick(x)[1:2], brick(x[1:2]))


def test_the_last_row_and_column_are_repeated() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert padded(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert padded(x, 1).equal(x)
