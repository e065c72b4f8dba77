import pytest
import torch

from intarsia.networks.blocks import ImagePooling, ResidualBlock, conv_block, doubled, fcn_head, resized


@pytest.mark.parametrize(("stride", "size"), [(1, (9, 12)), (2, (5, 6))])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_a_block_keeps_the_size_or_halves_it_rounded_up(
    kernel: int, dilation: int, stride: int, size: tuple[int, int]
) -> None:
    block = conv_block(4, 6, kernel, stride, dilation)
    assert block(torch.rand(2, 4, 9, 12)).shape == (2, 6, *size)


def test_a_residual_block_whose_convolutions_are_zero_is_the_identity_on_positive_numbers() -> None:
    block = ResidualBlock(4).eval()
    torch.nn.init.zeros_(block.second[0].weight)
    x = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_image_pooling_is_the_mean_everywhere() -> None:
    pooling = ImagePooling(3, 3).eval()
    torch.nn.init.dirac_(pooling.conv.weight)
    x = torch.rand(2, 3, 5, 7)
    expected = x.mean(dim=(2, 3), keepdim=True).expand(2, 3, 5, 7)
    torch.testing.assert_close(pooling(x), expected, rtol=1e-4, atol=1e-4)


def test_image_pooling_trains_on_one_picture_with_the_running_statistics() -> None:
    pooling = ImagePooling(3, 4)
    x = torch.rand(1, 3, 5, 7)
    before = pooling.norm.running_mean.clone()
    torch.testing.assert_close(pooling.train()(x), pooling.eval()(x))
    assert torch.equal(pooling.norm.running_mean, before)
    pooling.train()(torch.rand(2, 3, 5, 7))
    assert not torch.equal(pooling.norm.running_mean, before)


def test_a_head_gives_a_score_a_class_even_of_one_channel() -> None:
    assert fcn_head(1, 5, dropout=0.0)(torch.rand(1, 1, 4, 4)).shape == (1, 5, 4, 4)


def test_enlarging_keeps_a_constant_and_the_size_asked_for() -> None:
    x = torch.full((1, 2, 3, 4), 0.7)
    torch.testing.assert_close(doubled(x), torch.full((1, 2, 6, 8), 0.7))
    torch.testing.assert_close(resized(x, like=torch.zeros(1, 9, 5, 9)), torch.full((1, 2, 5, 9), 0.7))
