"""What is special to VAE-GAN: three parts with losses of their own, and a critic that says how alike pictures are."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from intarsia.errors import UsageError
from intarsia.losses.variational import gaussian_kl
from intarsia.models.generative.vae_gan import VAEGAN, VAEGANConfig
from intarsia.records import IGNORE, Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, prepare, train
from intarsia.training.machine import make_fabric

SMALL: dict[str, Any] = {"channels": 1, "size": (16, 16), "width": 8, "latent": 4}
RECIPE: dict[str, Any] = {
    "optimizer": "adam", "learning_rate": 2e-3, "betas": (0.5, 0.999), "schedule": "constant", "warmup": 0.0,
    "weight_decay": 0.0, "clip": 0.0, "average": 0.0, "threads": 1, "precision": "32-true",
}  # fmt: skip


def made(seed: int = 0, **options: Any) -> VAEGAN:
    torch.manual_seed(seed)
    return VAEGAN(VAEGANConfig(**{**SMALL, **options}))


def halves(count: int = 8, seed: int = 0, channels: int = 1) -> Batch:
    """Pictures whose left or right half is bright, class 0 or 1; how bright varies."""
    random = torch.Generator().manual_seed(seed)
    categories = torch.randint(0, 2, (count,), generator=random)
    images = torch.full((count, channels, 16, 16), 0.1)
    bright = 0.6 + 0.3 * torch.rand(count, channels, 1, 1, generator=random)
    images[..., :8] = torch.where(categories.view(-1, 1, 1, 1) == 0, bright, 0.1)
    images[..., 8:] = torch.where(categories.view(-1, 1, 1, 1) == 1, bright, 0.1)
    return Batch(images, categories=categories)


many = [halves(seed=seed) for seed in range(20)]
unseen = halves(32, seed=99)


def trained(model: VAEGAN, steps: int, **options: Any) -> VAEGAN:
    config = TrainConfig(**{**RECIPE, **options})
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(model, config, 1, fabric)
    train(training, wrapped, fabric, itertools.cycle(many), steps)
    return model


def is_left(images: Tensor) -> Tensor:
    return images[..., :8].mean(dim=(1, 2, 3)) > images[..., 8:].mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def learnt() -> VAEGAN:
    return trained(made(similarity=5.0), 120)


def test_pictures_come_back(learnt: VAEGAN) -> None:
    again = learnt.reconstruct(unseen.images)
    untrained = made().eval().reconstruct(unseen.images)
    assert (is_left(again) == (unseen.categories == 0)).all()
    assert (again - unseen.images).square().mean() < 0.15 * (untrained - unseen.images).square().mean()


def test_both_kinds_are_drawn(learnt: VAEGAN) -> None:
    torch.manual_seed(3)
    drawn = learnt(torch.randn(200, 4))
    assert 0.15 < is_left(drawn).float().mean() < 0.85
    bright, dark = drawn.amax(dim=3).mean(), drawn.amin(dim=3).mean()
    assert bright > 0.4 and dark < 0.3


def test_the_way_from_one_code_to_another_is_made_of_pictures(learnt: VAEGAN) -> None:
    ends = learnt.encode(
        torch.stack([unseen.images[is_left(unseen.images)][0], unseen.images[~is_left(unseen.images)][0]])
    )
    decoded = learnt.decode(ends)
    assert is_left(decoded).tolist() == [True, False]


def test_a_class_that_is_told_is_drawn() -> None:
    model = trained(made(condition="class", classes=2, similarity=5.0), 120)
    torch.manual_seed(4)
    condition = torch.arange(100) % 2
    drawn = model(torch.randn(100, 4), condition)
    assert (is_left(drawn) == (condition == 0)).float().mean() > 0.9


def gradients(model: VAEGAN, batch: Batch, part: str, loss: Tensor | None = None) -> dict[str, Tensor]:
    model.requires_grad_(False)
    model.parts()[part].requires_grad_(True)
    model.zero_grad()
    torch.manual_seed(7)
    (model.loss(batch, part)["total"] if loss is None else loss).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_each_part_descends_a_loss_of_its_own() -> None:
    """The prior is the encoder's, the weight of the likeness the generator's; the critic knows of neither."""
    plain, other = made(), made(prior=50.0, similarity=50.0)
    same = {}
    for part in plain.parts():
        ours, theirs = gradients(plain, unseen, part), gradients(other, unseen, part)
        assert ours.keys() == theirs.keys() and all(name.startswith(part) for name in ours)
        same[part] = all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert same == {"encoder": False, "generator": False, "critic": True}
    only = made(prior=50.0)
    assert all(torch.equal(grad, gradients(only, unseen, "generator")[name])
               for name, grad in gradients(plain, unseen, "generator").items())  # fmt: skip


def test_a_turn_moves_its_own_part_alone() -> None:
    for name in made().parts():
        model = made()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        model.turns = lambda name=name: (name,)  # type: ignore[method-assign, misc]
        trained(model, 1)
        moved = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
        assert moved == {name}


def test_the_likeness_is_the_critics_and_is_0_for_the_same_picture() -> None:
    model = made()
    told = torch.zeros(32, 0)
    assert model._likeness(unseen.images, unseen.images, told).sum() == 0
    one, other = unseen.images, unseen.images.flip(0)
    expected = (model.critic(one)[1] - model.critic(other)[1]).square() / 2
    torch.testing.assert_close(model._likeness(one, other, told), expected)


def test_the_prior_is_the_kl_of_the_code() -> None:
    model = made().eval()
    mean, log_variance = model.encoder(2 * unseen.images - 1)
    expected = gaussian_kl(mean, log_variance)
    torch.testing.assert_close(model.loss(unseen, "encoder")["prior"], expected.sum(dim=1).mean())
    health = model.health(unseen)
    torch.testing.assert_close(health["kl_dimensions"], expected.sum(dim=0).detach())
    torch.testing.assert_close(health["means_square_sum"], mean.square().sum(dim=0).detach())


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), (8, 8)), ((28, 28), (7, 7)), ((8, 9), (4, 5)), ((33, 100), (5, 13))]
)
def test_the_smallest_map_has_a_shorter_side_of_8_or_less(size: tuple[int, int], grid: tuple[int, int]) -> None:
    model = made(size=size).eval()
    images = torch.rand(1, 1, *size)
    assert (
        model.encoder.layers(
            nn.functional.pad(images, (0, -size[1] % model.encoder.stride, 0, -size[0] % model.encoder.stride))
        ).shape[2:]
        == grid
    )
    assert model.reconstruct(images).shape == images.shape


def test_a_picture_of_another_size_comes_back_at_its_own() -> None:
    images = torch.rand(2, 1, 40, 21)
    assert made().eval().reconstruct(images).shape == images.shape


def test_a_class_is_needed_where_it_is_told() -> None:
    model = made(condition="class", classes=3).eval()
    with pytest.raises(UsageError, match="from 0 to 2"):
        model(torch.randn(2, 4))
    with pytest.raises(UsageError, match=r"model\.classes is 0"):
        made(condition="class")
    nobody = torch.full((2,), IGNORE)
    images = unseen.images[:2]
    torch.testing.assert_close(model.reconstruct(images), model.decode(model.encode(images, nobody), nobody))
    assert not torch.equal(model.encode(images, nobody), model.encode(images, nobody + 1))


def test_a_withheld_class_is_not_seen() -> None:
    model = made(condition="class", classes=2, unconditional=1.0).train()
    other = Batch(unseen.images, categories=torch.full((32,), IGNORE))
    for part in model.parts():
        assert all(torch.equal(value, gradients(model, other, part)[name])
                   for name, value in gradients(model, unseen, part).items())  # fmt: skip


def test_a_stopped_training_goes_on_exactly() -> None:
    config = TrainConfig(**{**RECIPE, "average": 0.9})
    fabric = make_fabric(config, "cpu")

    def begun() -> tuple[Training, nn.Module, Fabric]:
        return (*prepare(made(), config, 5, fabric), fabric)

    def stop(training: Training, losses: Any) -> None:
        training.progress.finished = training.progress.step == 3

    whole, wrapped, _ = begun()
    train(whole, wrapped, fabric, iter(many), 6)
    first, wrapped, _ = begun()
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
