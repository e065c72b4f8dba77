from pathlib import Path
from typing import Any

import pytest
import torch

from intarsia.errors import UsageError
from intarsia.networks import OWN_ENCODERS, Encoder, build_encoder


def sizes(encoder: Encoder, channels: int) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [tuple(each.shape[1:]) for each in encoder.eval()(torch.rand(1, channels, 64, 96))]


def promised(encoder: Encoder) -> list[tuple[int, ...]]:
    return [(c, 64 // r, 96 // r) for c, r in zip(encoder.channels, encoder.reductions, strict=True)]


@pytest.mark.parametrize("output_stride", [None, 8, 16, 32])
@pytest.mark.parametrize("name", OWN_ENCODERS)
def test_ours_give_the_maps_they_promise(name: str, output_stride: Any) -> None:
    encoder = build_encoder(name, channels=5, output_stride=output_stride)
    assert sizes(encoder, 5) == promised(encoder)
    assert encoder.reductions == tuple(min(r, output_stride or 32) for r in (2, 4, 8, 16, 32))


def test_dilation_keeps_the_weights_and_the_centres() -> None:
    """A dilated encoder computes what the strided one does, and the places between: it takes the same weights."""
    strided, dilated = build_encoder("tiny", 3).eval(), build_encoder("tiny", 3, output_stride=8).eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.rand(1, 3, 96, 96)
    coarse, fine = strided(x)[-1], dilated(x)[-1]
    assert fine.shape[2:] == (12, 12)
    torch.testing.assert_close(fine[:, :, ::4, ::4], coarse, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/convnext_atto", "timm/mobilenetv3_small_050"])
@pytest.mark.parametrize("output_stride", [None, 16])
def test_timms_give_the_maps_they_promise(name: str, output_stride: Any) -> None:
    encoder = build_encoder(name, channels=2, output_stride=output_stride)
    assert sizes(encoder, 2) == promised(encoder)
    assert max(encoder.reductions) == (output_stride or 32)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("smal", r'take one of "tiny", "small".*written as "timm/NAME".*Did you mean "small"\?'),
        ("resnet18", r'Did you mean "timm/resnet18"\?'),
        ("nothing-like-it", r'"timm/resnet18"\.$'),
        ("timm/resnet81", r'did you mean "timm/resnet'),
        ("timm/vit_tiny_patch16_224", r"failed on a picture of 64 x 96"),
    ],
)
def test_a_name_that_does_not_do_is_refused_in_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build_encoder(name, channels=3)


def test_a_backbone_that_can_not_dilate_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="last map at 1/8"):
        build_encoder("timm/pvt_v2_b0", channels=3, output_stride=8)


def test_ours_have_no_pretrained_weights() -> None:
    with pytest.raises(UsageError, match="no pretrained weights"):
        build_encoder("small", channels=3, pretrained=True)


def test_weights_that_can_not_be_fetched_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"can't be had .* or set pretrained = false"):
        build_encoder("timm/resnet10t", channels=3, pretrained=True)
