"""What a machine is asked and told."""

import pytest
import torch

from intarsia.errors import UsageError
from intarsia.training.config import TrainConfig
from intarsia.training.machine import choose_device, choose_precision, cores, describe, make_fabric


def test_the_device_is_the_wanted_one_if_it_is_there() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cuda", "cpu")
    assert choose_device(choose_device("auto")) == choose_device("auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'cuda'.*finds only .*cpu"):
        choose_device("cuda")


def test_a_wanted_precision_is_taken() -> None:
    assert choose_precision("16-mixed", "cpu") == "16-mixed"


def test_the_machine_is_told_in_words() -> None:
    assert f", {cores()} core" in describe("cpu")


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_precision_is_that_of_the_layers_and_not_of_the_pictures(precision: str, dtype: torch.dtype) -> None:
    fabric = make_fabric(TrainConfig(precision=precision, threads=1), "cpu")
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Identity())
    seen: list[torch.dtype] = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    fabric.setup(layers)(torch.rand(1, 1, 2, 2))
    assert seen == [torch.float32, dtype]
    assert torch.get_num_threads() == 1
