"""What is special to each semantic model: the paper's sizes, its wiring, its options."""

from typing import Any

import pytest
import torch
from torch import nn

from intarsia.errors import UsageError
from intarsia.models import build
from intarsia.models.semantic import (
    FCN,
    DeepLab,
    DeepLabConfig,
    FCDenseNet,
    FCDenseNetConfig,
    FCNConfig,
    RealTime,
    RealTimeConfig,
    SegNet,
    SegNetConfig,
    UNet,
    UNetConfig,
)
from intarsia.models.semantic.deeplab import ASPP
from intarsia.models.semantic.fc_densenet import DenseBlock


def parameters(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())


def count(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(each, kinds) for each in model.modules())


# --- FC-DenseNet ---


@pytest.mark.parametrize(("variant", "millions"), [("67", 3.5), ("103", 9.4)])
def test_fc_densenet_has_the_papers_size(variant: Any, millions: float) -> None:
    model = FCDenseNet(FCDenseNetConfig(variant=variant, classes=11))
    assert parameters(model) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("variant", ["56", "67", "103"])
def test_fc_densenet_has_as_many_layers_as_its_name_says(variant: Any) -> None:
    model = FCDenseNet(FCDenseNetConfig(variant=variant, classes=11))
    assert count(model, nn.Conv2d, nn.ConvTranspose2d) == int(variant)


def test_fc_densenet_classifies_256_maps_as_in_table_2() -> None:
    assert FCDenseNet(FCDenseNetConfig(variant="103")).classifier.in_channels == 256


def test_a_dense_block_gives_its_new_maps_and_each_layer_sees_all_before() -> None:
    block = DenseBlock(inputs=5, growth=3, count=4, dropout=0.0)
    assert block(torch.rand(2, 5, 6, 7)).shape == (2, 12, 6, 7)
    assert [each[2].in_channels for each in block.layers] == [5, 8, 11, 14]


# --- SegNet ---


def test_segnet_has_13_convolutions_and_their_mirror() -> None:
    model = SegNet(SegNetConfig(classes=11))
    assert count(model, nn.Conv2d) == 26
    assert parameters(model) / 1e6 == pytest.approx(29.5, rel=0.01)  # the paper, table 6: 117 MB of float32


def test_segnet_basic_has_no_relu_in_its_decoder() -> None:
    model = SegNet(SegNetConfig(variant="basic", width=8))
    assert count(model.down, nn.ReLU) == 4
    assert count(model.up, nn.ReLU) == 0


@pytest.mark.parametrize("variant", ["full", "basic"])
def test_segnet_puts_values_back_where_they_stood(variant: Any) -> None:
    """With blocks that do nothing, pooling and unpooling keep the largest value of the picture, in its place."""
    model = SegNet(SegNetConfig(variant=variant, width=8, channels=8, classes=8)).eval()
    model.down = nn.ModuleList(nn.Identity() for _ in model.down)
    model.up = nn.ModuleList(nn.Identity() for _ in model.up)
    model.classifier = nn.Identity()  # type: ignore[assignment]
    x = torch.rand(1, 8, 32, 32)
    y = model.heads(x, auxiliary=False)[0]
    size = model.stride
    expected = torch.zeros_like(x)
    for top in range(0, 32, size):
        for left in range(0, 32, size):
            for channel in range(8):
                tile = x[0, channel, top : top + size, left : left + size]
                row, column = divmod(int(tile.argmax()), size)
                expected[0, channel, top + row, left + column] = tile.max()
    torch.testing.assert_close(y, expected)


# --- U-Net ---


def test_unet_has_the_papers_channels() -> None:
    model = UNet(UNetConfig(width=64))
    assert model.encoder.channels == (64, 128, 256, 512, 1024)
    assert [step.merge[0][0].in_channels for step in model.steps] == [1024, 512, 256, 128]
    assert model.classifier.in_channels == 64


@pytest.mark.parametrize("finest", [1, 2, 4])
@pytest.mark.parametrize("encoder", ["plain", "tiny"])
def test_unet_ends_at_the_size_asked_for(encoder: str, finest: Any) -> None:
    model = UNet(UNetConfig(encoder=encoder, width=4, finest=finest)).eval()
    assert model.heads(torch.rand(1, 3, 64, 96), auxiliary=False)[0].shape == (1, 2, 64 // finest, 96 // finest)


def test_unet_supervises_every_coarser_step_only_where_asked() -> None:
    x = torch.rand(1, 3, 32, 64)
    with_heads = UNet(UNetConfig(width=4, auxiliary=True)).eval()
    sizes = [tuple(each.shape[2:]) for each in with_heads.heads(x, auxiliary=True)]
    assert sizes == [(32, 64), (4, 8), (8, 16), (16, 32)]
    assert len(with_heads.heads(x, auxiliary=False)) == 1
    assert len(UNet(UNetConfig(width=4)).heads(x, auxiliary=True)) == 1


# --- FCN ---


@pytest.mark.parametrize(("variant", "reduction"), [("32s", 32), ("16s", 16), ("8s", 8), ("dilated", 8)])
def test_fcn_scores_at_the_size_its_name_says(variant: Any, reduction: int) -> None:
    model = FCN(FCNConfig(encoder="tiny", variant=variant)).eval()
    assert model.heads(torch.rand(1, 3, 64, 96), auxiliary=False)[0].shape == (1, 2, 64 // reduction, 96 // reduction)


def test_fcn_8s_begins_as_32s_enlarged() -> None:
    """Scores of the finer maps start at zero, so that the coarsest decides first."""
    torch.manual_seed(0)
    fine = FCN(FCNConfig(encoder="tiny", variant="8s")).eval()
    torch.manual_seed(0)
    coarse = FCN(FCNConfig(encoder="tiny", variant="32s")).eval()
    coarse.load_state_dict({k: v for k, v in fine.state_dict().items() if not k.startswith("scores.")})
    x = torch.rand(1, 3, 64, 64)
    expected = coarse.heads(x, auxiliary=False)[0]
    for size in (4, 8):
        expected = nn.functional.interpolate(expected, size=(size, size), mode="bilinear")
    torch.testing.assert_close(fine.heads(x, auxiliary=False)[0], expected)


# --- DeepLab ---


@pytest.mark.parametrize(
    ("version", "output_stride", "reduction"), [("v3", 16, 16), ("v3", 8, 8), ("v3+", 16, 4), ("v3+", 8, 4)]
)
def test_deeplab_scores_at_the_size_of_its_version(version: Any, output_stride: Any, reduction: int) -> None:
    model = DeepLab(DeepLabConfig(encoder="tiny", width=8, version=version, output_stride=output_stride)).eval()
    assert model.stride == output_stride
    assert model.heads(torch.rand(1, 3, 64, 96), auxiliary=False)[0].shape == (1, 2, 64 // reduction, 96 // reduction)


@pytest.mark.parametrize(("output_stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_deeplab_doubles_its_rates_at_output_stride_8(output_stride: Any, rates: list[int]) -> None:
    model = DeepLab(DeepLabConfig(encoder="tiny", width=8, output_stride=output_stride))
    assert [branch[0].dilation[0] for branch in model.aspp.branches[1:]] == rates


def test_aspp_sees_as_far_as_its_largest_rate_and_the_whole_map_through_its_pooling() -> None:
    aspp = ASPP(inputs=1, width=4, rates=(2, 5), dropout=0.0).eval()
    x = torch.zeros(1, 1, 21, 21, requires_grad=True)
    (seen,) = torch.autograd.grad(aspp.branches[2][0](x)[0, :, 10, 10].sum(), x)
    rows = seen[0, 0].nonzero()[:, 0]
    assert (rows.min(), rows.max()) == (5, 15)
    (all_seen,) = torch.autograd.grad(aspp.pooling.conv(x.mean(dim=(2, 3), keepdim=True)).sum(), x)
    assert all_seen.count_nonzero() == 21 * 21


@pytest.mark.parametrize(("finest", "rungs"), [(4, 3), (8, 2)])
def test_the_ladder_ends_where_it_says(finest: Any, rungs: int) -> None:
    model = RealTime(RealTimeConfig(encoder="tiny", width=16, finest=finest, auxiliary=True)).eval()
    answer, *others = model.heads(torch.rand(1, 3, 64, 96), auxiliary=True)
    assert answer.shape == (1, 2, 64 // finest, 96 // finest) and len(model.rungs) == rungs
    assert [each.shape[2] for each in others] == [4, 8][: rungs - 1]  # of those below the answer, coarsest first


def test_the_ladder_of_the_fast_encoder_is_made_for_vectors() -> None:
    """Multiples of 16 channels everywhere behind the picture, and no convolution of single channels."""
    model = RealTime(RealTimeConfig(classes=11))
    convolutions = [each for each in model.modules() if isinstance(each, torch.nn.Conv2d)]
    assert all(each.groups == 1 and each.in_channels % 16 == 0 for each in convolutions[1:])
    assert all(each.out_channels % 16 == 0 for each in convolutions if each is not model.classifier)


def test_an_encoder_without_a_rung_is_refused() -> None:
    with pytest.raises(UsageError, match="no map between 1/8 and 1/16 of the size"):
        RealTime(RealTimeConfig(encoder="timm/test_vit", finest=8))


def test_an_encoder_that_can_not_do_it_is_named() -> None:
    with pytest.raises(UsageError, match=r'"smal" is not known.*Did you mean "small"'):
        FCN(FCNConfig(encoder="smal"))


@pytest.mark.parametrize(
    "config",
    [
        FCNConfig(encoder="tiny", dropout=0.5),
        UNetConfig(width=8, dropout=0.5),
        SegNetConfig(width=8, dropout=0.5),
        DeepLabConfig(encoder="tiny", width=16, dropout=0.5),
        FCDenseNetConfig(growth=4, layers=(2, 2), dropout=0.5),
        RealTimeConfig(encoder="tiny", width=16, dropout=0.5),
    ],
    ids=lambda config: config.name,
)
def test_dropout_acts_in_training_only(config: Any) -> None:
    model = build(config)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.eval()(images), model(images))
    assert not torch.equal(model.train()(images), model(images))


def test_a_trained_model_is_rebuilt_without_fetching_pretrained_weights() -> None:
    model = build(UNetConfig(encoder="timm/resnet10t", pretrained=True, width=4), fetch=False).eval()
    assert model(torch.rand(1, 3, 33, 40)).shape == (1, 2, 33, 40)
