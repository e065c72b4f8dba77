"""torchvision's own networks, saved and loaded into ours, compute the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intarsia.errors import UsageError
from intarsia.models import build
from intarsia.models.semantic import FCN, SegNet, SegNetConfig
from intarsia.models.weights import IMAGENET_DEVIATION, IMAGENET_MEAN, load_torchvision, torchvision_config


def original(name: str, auxiliary: bool = True) -> nn.Module:
    """torchvision's network, random, its running statistics those of random pictures, logits of order 1."""
    from torchvision.models import segmentation

    torch.manual_seed(3)
    model: nn.Module = getattr(segmentation, name)(weights=None, weights_backbone=None, aux_loss=auxiliary)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, std=0.2)  # type: ignore[arg-type]
            module.momentum = 1.0
    contrasts = torch.tensor([0.2, 0.5, 1.0, 3.0]).view(4, 1, 1, 1)  # so that the pooled pictures differ as well
    with torch.no_grad():
        model.train()(contrasts * torch.randn(4, 3, 48, 48))
    return model.eval()


def standardised(images: Tensor) -> Tensor:
    return (images - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1)


@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"])
def test_the_same_logits_as_torchvision(name: Any, tmp_path: Path) -> None:
    theirs = original(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build(torchvision_config(name)).eval()
    left = load_torchvision(ours, torch.load(tmp_path / "weights.pth", weights_only=True))
    assert left == ()
    images = torch.rand(1, 3, 65, 97)
    with torch.inference_mode():
        expected = theirs(standardised(images))
        logits, auxiliary = ours.logits(images, auxiliary=True)  # type: ignore[operator]
        assert torch.equal(ours(images), logits)
    assert logits.shape == (1, 21, 65, 97)
    assert 0.05 < expected["out"].std() < 20  # not zeros against zeros
    torch.testing.assert_close(logits, expected["out"], rtol=0, atol=1e-4)
    torch.testing.assert_close(auxiliary, expected["aux"], rtol=0, atol=1e-4)


def test_another_number_of_classes_and_channels_keeps_all_else() -> None:
    state = original("fcn_resnet50").state_dict()
    config = torchvision_config("fcn_resnet50", classes=3)
    ours = FCN(config.model_copy(update={"channels": 1, "mean": (0.5,), "deviation": (0.25,)}))  # type: ignore[arg-type]
    left = load_torchvision(ours, state)
    assert set(left) == {"head.4.weight", "head.4.bias", "auxiliary_head.4.weight", "auxiliary_head.4.bias"}
    own = ours.state_dict()
    assert torch.equal(own["head.0.weight"], state["classifier.0.weight"])
    grey = state["backbone.conv1.weight"].sum(dim=1, keepdim=True)
    torch.testing.assert_close(own["encoder.net.conv1.weight"], grey)


def test_weights_of_another_kind_are_refused_and_nothing_is_loaded() -> None:
    ours = build(torchvision_config("fcn_resnet50"))
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    state = original("fcn_resnet50", auxiliary=False).state_dict()
    with pytest.raises(UsageError, match="they lack auxiliary_head"):
        load_torchvision(ours, state)
    with pytest.raises(UsageError, match="they hold something"):
        load_torchvision(ours, {"something.else": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"conv1\.weight is \(64, 3, 5, 5\)"):
        load_torchvision(ours, {"backbone.conv1.weight": torch.zeros(64, 3, 5, 5)})
    with pytest.raises(UsageError, match="no weights for SegNet"):
        load_torchvision(SegNet(SegNetConfig(width=4)), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
