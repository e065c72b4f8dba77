"""What is special to pix2pix: pairs, patches, pixels that nobody labelled, and games played in turns."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import nn

from intarsia.errors import UsageError
from intarsia.models.generative.pix2pix import Generator, PatchCritic, Pix2Pix, Pix2PixConfig
from intarsia.networks.corruptions import grey
from intarsia.records import IGNORE, Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, prepare, train
from intarsia.training.machine import make_fabric

COLOURS = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.4, 0.8], [0.5, 0.8, 0.3]])  # of class 0, 1, 2; their greys differ
SMALL: dict[str, Any] = {"size": (16, 16), "width": 8, "depth": 3, "critic_width": 8, "critic_depth": 1, "dropout": 0.0}
RECIPE: dict[str, Any] = {
    "optimizer": "adam", "learning_rate": 3e-3, "betas": (0.5, 0.999), "schedule": "constant", "warmup": 0.0,
    "weight_decay": 0.0, "clip": 0.0, "average": 0.0, "threads": 1, "precision": "32-true",
}  # fmt: skip


def made(seed: int = 0, **options: Any) -> Pix2Pix:
    torch.manual_seed(seed)
    return Pix2Pix(Pix2PixConfig(**{**SMALL, **options}))


def scenes(count: int = 4, classes: int = 2, seed: int = 0, side: int = 16) -> Batch:
    """Flat rectangles of class 1, 2, ... on class 0, each pixel in its class's colour."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, side, side, dtype=torch.int64)
    for mask, number in itertools.product(masks, range(1, classes)):
        top, left = torch.randint(0, side - 6, (2,), generator=random).tolist()
        mask[top : top + 6, left : left + 6] = number
    images = COLOURS[masks].movedim(-1, 1).contiguous()
    return Batch(images, masks, labelled=torch.ones(count, dtype=torch.bool))


def trained(model: Pix2Pix, batches: list[Batch], steps: int) -> Pix2Pix:
    config = TrainConfig(**RECIPE)
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(model, config, 1, fabric)
    train(training, wrapped, fabric, itertools.cycle(batches), steps)
    return model


def error(model: Pix2Pix, batch: Batch) -> float:
    return (model.translate(model.sources(batch)) - model.targets(batch)).abs().mean().item()


many = [scenes(seed=seed) for seed in range(20)]
unseen = scenes(8, seed=99)


def test_a_masks_colours_are_learnt() -> None:
    model = made(task="mask_to_picture", classes=2)
    before = error(model, unseen)
    trained(model, many, 60)
    assert error(model, unseen) < 0.08 < before


def test_a_pictures_mask_is_learnt() -> None:
    model = trained(made(task="picture_to_mask", classes=2), many, 60)
    probabilities = model.translate(unseen.images)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(8, 16, 16))
    assert unseen.masks is not None
    assert (probabilities.argmax(dim=1) == unseen.masks).float().mean() > 0.97


def test_the_colour_that_a_grey_level_has_is_learnt() -> None:
    model = made()
    before = (model.mend(unseen.images) - unseen.images).abs().mean()
    trained(model, many, 80)
    after = (model.mend(unseen.images) - unseen.images).abs().mean()
    assert after < 0.3 * before


def test_restoring_takes_noise_away() -> None:
    model = trained(made(task="restore", width=24, blur=(0.0, 0.0), noise=(0.2, 0.2)), many, 120)
    torch.manual_seed(0)
    damaged = model.sources(unseen)
    assert (model.mend(damaged) - unseen.images).abs().mean() < 0.7 * (damaged - unseen.images).abs().mean()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_coloured_picture_keeps_its_grey(channels: int) -> None:
    model = made(channels=channels).eval()
    source = 0.4 + 0.2 * torch.rand(2, 1, 11, 23)  # far from where a channel would be cut off
    with torch.no_grad():
        model.generator.decoders[-1].weight.mul_(2)  # type: ignore[operator]
    answer = model.translate(source)
    torch.testing.assert_close(grey(answer)[:, :1], source, atol=2e-5, rtol=0)
    assert channels == 1 or (answer - source).abs().max() > 1e-3


def test_a_picture_s_own_colours_are_not_looked_at() -> None:
    model = made().eval()
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(model.mend(images), model.mend(grey(images)))


@pytest.mark.parametrize(("depth", "patch"), [(1, 16), (2, 34), (3, 70)])  # the paper's, appendix 6.1.2
def test_a_score_sees_a_patch_of_the_stated_size(depth: int, patch: int) -> None:
    critic = PatchCritic(2, 4, depth)
    assert critic.patch == patch
    # normalisation sees the whole picture, convolutions alone do not
    critic.layers = nn.Sequential(*(m for m in critic.layers.modules() if isinstance(m, nn.Conv2d)))
    source, target = torch.rand(2, 1, 1, 160, 160)
    target.requires_grad_(True)
    scores = critic(source, target)
    middle = scores.shape[2] // 2
    (slope,) = torch.autograd.grad(scores[0, 0, middle, middle], target)
    for axis in (2, 3):
        seen = slope.abs().amax(dim=(0, 1, 5 - axis)).nonzero()
        assert seen.max() - seen.min() + 1 == patch


def test_there_is_a_score_for_each_patch() -> None:
    critic = PatchCritic(4, 4, 3)
    assert critic(torch.rand(2, 1, 256, 256), torch.rand(2, 3, 256, 256)).shape == (2, 1, 30, 30)  # as in the paper
    assert critic(torch.rand(2, 1, 9, 40), torch.rand(2, 3, 9, 40)).shape == (2, 1, 1, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (64, 64), (65, 33)])
def test_the_generator_takes_any_size(size: tuple[int, int]) -> None:
    assert Generator(2, 5, 4, 6, 0.5)(torch.rand(1, 2, *size)).shape == (1, 5, *size)


def test_chance_is_for_training_only() -> None:
    model = made(dropout=0.5).train()
    source = torch.rand(1, 1, 16, 16)
    assert torch.equal(model.translate(source), model.translate(source))
    assert not torch.equal(model.generator(source, noisy=True), model.generator(source, noisy=True))


def test_pixels_that_nobody_labelled_are_in_no_plane() -> None:
    model = made(task="mask_to_picture", classes=3)
    planes = model.planes(torch.tensor([[[0, 2], [IGNORE, 1]]]))
    assert planes.tolist() == [[[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]]]


def test_what_a_model_says_where_nobody_labelled_changes_no_loss() -> None:
    model = made(task="picture_to_mask", classes=2).train()
    batch = scenes()
    assert batch.masks is not None
    batch.masks[:, :, 8:] = IGNORE
    before = {part: model.loss(batch, part) for part in model.parts()}
    model.generator.register_forward_hook(
        lambda module, inputs, output: torch.cat([output[..., :8], 9 * torch.randn_like(output[..., 8:])], dim=-1)
    )
    for part, terms in before.items():
        after = model.loss(batch, part)
        assert all(torch.equal(after[name], value) for name, value in terms.items())


@pytest.mark.parametrize("task", ["picture_to_mask", "mask_to_picture"])
def test_unlabelled_pictures_are_left_out(task: str) -> None:
    model = made(task=task, classes=2).eval()
    batch, half = scenes(4), scenes(4)
    assert half.masks is not None
    half.masks[2:] = IGNORE
    alone = Batch(batch.images[:2], half.masks[:2])
    for part in ("critic", "generator"):
        with_others, without = model.loss(half, part), model.loss(alone, part)
        assert with_others.keys() == without.keys()
        for name in without:
            torch.testing.assert_close(with_others[name], without[name])


@pytest.mark.parametrize("task", ["picture_to_mask", "mask_to_picture"])
def test_a_batch_without_any_mask_moves_nothing(task: str) -> None:
    model = made(task=task, classes=2).train()
    unlabelled = [Batch(unseen.images, torch.full((8, 16, 16), IGNORE)), Batch(unseen.images)]
    for batch, (name, part) in itertools.product(unlabelled, model.parts().items()):
        losses = model.loss(batch, name)
        losses["total"].backward()
        assert all(value == 0 for value in losses.values())
        assert losses.keys() == model.loss(unseen, name).keys()
        assert all(p.grad is not None and not p.grad.any() for p in part.parameters())
        assert model.health(batch) == {}


def test_overlapping_classes_can_be_drawn_from_but_not_predicted() -> None:
    labels = torch.randint(0, 2, (2, 2, 16, 16)).float()
    batch = Batch(torch.rand(2, 3, 16, 16), labels=labels)
    assert made(task="mask_to_picture", classes=2).loss(batch)["total"] > 0
    with pytest.raises(UsageError, match="overlap"):
        made(task="picture_to_mask", classes=2).loss(batch)


def test_a_mask_model_without_classes_and_a_wrong_wish_are_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.classes is 0"):
        made(task="mask_to_picture")
    with pytest.raises(UsageError, match="mends no pictures"):
        made(task="mask_to_picture", classes=2).mend(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="smallest deviation of blur"):
        made(task="restore", blur=(2.0, 1.0))


def test_the_critic_learns_to_tell_pairs_from_answers_and_health_says_so() -> None:
    model = made(task="mask_to_picture", classes=2)
    random = [Batch(torch.rand(4, 3, 16, 16), scenes(seed=seed).masks) for seed in range(8)]
    optimizer = torch.optim.Adam(model.critic.parameters(), lr=3e-3)
    model.generator.requires_grad_(False)
    for batch in random * 4:
        optimizer.zero_grad()
        model.loss(batch, "critic")["total"].backward()
        optimizer.step()
    health = model.eval().health(random[0])
    assert health["critic_real"] > 0.9 and health["critic_fake"] > 0.9 and health["critic_gradient"] > 0


def test_a_mismatched_pair_is_seen_through() -> None:
    """The critic sees the source as well: a good picture for another mask does not pass."""
    model = made(task="mask_to_picture", classes=2)
    optimizer = torch.optim.Adam(model.critic.parameters(), lr=3e-3)
    for batch in many * 5:
        source, target = model.sources(batch), model.targets(batch)
        scores = model.critic(source, target), model.critic(source, target.flip(0))
        optimizer.zero_grad()
        (nn.functional.softplus(-scores[0]).mean() + nn.functional.softplus(scores[1]).mean()).backward()
        optimizer.step()
    source, target = model.sources(unseen), model.targets(unseen)
    assert model.critic(source, target).mean() > model.critic(source, target.flip(0)).mean() + 0.5


def test_a_stopped_training_goes_on_exactly() -> None:
    config = TrainConfig(**{**RECIPE, "average": 0.9})
    fabric = make_fabric(config, "cpu")

    def begun() -> tuple[Training, nn.Module, Fabric]:
        return (*prepare(made(dropout=0.5, task="restore"), config, 5, fabric), fabric)

    whole, wrapped, _ = begun()
    train(whole, wrapped, fabric, iter(many), 6)
    first, wrapped, _ = begun()

    def stop(training: Training, losses: Any) -> None:
        training.progress.finished = training.progress.step == 3

    train(first, wrapped, fabric, iter(many), 6, [stop])
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second, wrapped, _ = begun()
    second.load_state(torch.load(file, weights_only=True))
    second.progress.finished = False
    train(second, wrapped, fabric, iter(many[3:]), 6)
    theirs = second.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in whole.model.state_dict().items())
    assert all(torch.equal(value, second.average.tensors[name]) for name, value in whole.average.tensors.items())
