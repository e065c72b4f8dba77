"""What every generative model promises, held over all of them. A new model is tested by adding its line."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from intarsia.models import MODELS, AnyModel, build
from intarsia.models.contract import Bounded, Draws, Encodes, GenerativeModel, Mends, Reconstructs
from intarsia.models.generative import Pix2Pix
from intarsia.models.sampling import CHUNK, draw
from intarsia.records import IGNORE, Batch

#: name of the case -> configuration of a model so small that a step takes milliseconds
SMALL_GENERATIVE: dict[str, dict[str, Any]] = {
    "autoencoder": {
        "name": "autoencoder",
        "width": 4,
        "depth": 2,
        "latent": 4,
        "alpha": 0.9,
        "sparsity": "kl",
        "corruption": {"noise": (0.0, 0.1), "holes": 0.3},
    },
    "vae": {"name": "vae", "width": 4, "latent": 6, "features": 16, "annealing": 0.4, "free_bits": 0.1},
    "vae-dense": {
        "name": "vae",
        "body": "dense",
        "hidden": (16,),
        "latent": 4,
        "activation": "tanh",
        "likelihood": "bernoulli",
        "binarise": True,
        "objective": "iwae",
        "importance_samples": 3,
        "doubly": True,
    },
    "vae-flow": {
        "name": "vae",
        "width": 4,
        "latent": 5,
        "features": 0,
        "residual": 0,
        "prior": "flow",
        "flow_steps": 4,
        "flow_width": 8,
        "condition": "class",
        "classes": 3,
        "likelihood": "logistic",
        "spread": "channel",
        "upsample": "subpixel",
        "finest": 2,
    },
    "vqvae": {
        "name": "vqvae",
        "width": 8,
        "blocks": 1,
        "latent": 4,
        "codes": 16,
        "quantizers": 2,
        "prior_width": 8,
        "prior_blocks": 1,
    },
    "gan": {"name": "gan", "width": 4, "latent": 8, "augment": ("colour", "translation", "cutout")},
    "gan-penalty": {
        "name": "gan",
        "width": 4,
        "latent": 8,
        "game": "wasserstein",
        "gradient_penalty": 10.0,
        "critic_steps": 2,
    },
    "gan-residual": {
        "name": "gan",
        "body": "residual",
        "width": 4,
        "latent": 8,
        "game": "hinge",
        "spectral_norm": True,
        "condition": "class",
        "classes": 3,
        "r1": 1.0,
    },
    "vae_gan": {"name": "vae_gan", "width": 4, "latent": 8},
    "vae_gan-class": {"name": "vae_gan", "width": 4, "latent": 8, "condition": "class", "classes": 3, "game": "hinge"},
    "pair_gan": {"name": "pair_gan", "classes": 2, "width": 4, "latent": 8},
    "pair_gan-penalty": {
        "name": "pair_gan",
        "classes": 3,
        "body": "residual",
        "width": 4,
        "latent": 8,
        "game": "wasserstein",
        "gradient_penalty": 10.0,
        "r1": 1.0,
        "augment": (),
    },
    "pix2pix": {"name": "pix2pix", "width": 4, "depth": 3, "critic_width": 4, "critic_depth": 2},
    "pix2pix-restore": {
        "name": "pix2pix",
        "task": "restore",
        "width": 4,
        "critic_width": 4,
        "critic_depth": 1,
        "game": "least_squares",
    },
    "pix2pix-picture": {
        "name": "pix2pix",
        "task": "mask_to_picture",
        "classes": 2,
        "width": 4,
        "critic_width": 4,
        "critic_depth": 2,
    },
    "pix2pix-mask": {
        "name": "pix2pix",
        "task": "picture_to_mask",
        "classes": 3,
        "width": 4,
        "critic_width": 4,
        "game": "hinge",
    },
    "diffusion": {"name": "diffusion", "width": 8, "depth": 1, "steps": 3, "mend_steps": 3},
    "diffusion-class": {
        "name": "diffusion",
        "width": 8,
        "depth": 1,
        "steps": 3,
        "condition": "class",
        "classes": 3,
        "guidance": 2.0,
        "holes": 0.0,
        "mend_steps": 3,
        "patch": 2,
    },
    "diffusion-mask": {
        "name": "diffusion",
        "width": 8,
        "depth": 1,
        "steps": 3,
        "mend_steps": 3,
        "condition": "mask",
        "classes": 2,
        "attention": False,
        "blocks": 2,
    },
}

ANY_MODEL: TypeAdapter[Any] = TypeAdapter(AnyModel)
every_model = pytest.mark.parametrize("case", SMALL_GENERATIVE)
SIZE = (20, 28)


def made(case: str, seed: int = 0, **options: Any) -> GenerativeModel:
    torch.manual_seed(seed)
    wished = {"channels": 3, "size": SIZE, **SMALL_GENERATIVE[case], **options}
    model = build(ANY_MODEL.validate_python(wished))
    assert isinstance(model, GenerativeModel)
    return model


def pictures(model: GenerativeModel, count: int = 4) -> Batch:
    """A bright square on a dark, noisy ground; the half that it is in is the picture's class, its place the mask."""
    channels, (height, width), classes = model.config.channels, model.config.size, max(model.config.classes, 2)
    random = torch.Generator().manual_seed(3)
    images = 0.2 * torch.rand(count, channels, height, width, generator=random)
    masks = torch.zeros(count, height, width, dtype=torch.int64)
    left = torch.randint(0, width - 6, (count,), generator=random)
    for i, x in enumerate(left.tolist()):
        images[i, :, 4:10, x : x + 6] += 0.7
        masks[i, 4:10, x : x + 6] = 1
    categories = (left >= width // 2).long() % classes
    return Batch(images, masks, labelled=torch.ones(count, dtype=torch.bool), categories=categories)


def condition(model: GenerativeModel, count: int) -> Tensor | None:
    """What `forward` is told: classes of pictures, or one-hot masks, or nothing."""
    told = getattr(model.config, "condition", "none")
    if told == "class":
        return torch.arange(count) % model.config.classes
    if told == "mask":
        masks = torch.arange(count * model.config.size[0] * model.config.size[1]) % model.config.classes
        one_hot = torch.nn.functional.one_hot(masks.view(count, *model.config.size), model.config.classes)
        return one_hot.movedim(-1, 1).float()
    return None


def told_by_masks(model: GenerativeModel) -> bool:
    """Whether it translates between pictures and masks, and can do nothing with pictures alone."""
    return isinstance(model, Pix2Pix) and "mask" in model.config.task


def in_range(images: Tensor) -> bool:
    return bool(images.isfinite().all() and images.min() >= 0 and images.max() <= 1)


def test_every_generative_model_has_a_case_and_its_own_name() -> None:
    generative = {name for name, model in MODELS.items() if issubclass(model, GenerativeModel)}
    assert {options["name"] for options in SMALL_GENERATIVE.values()} == generative
    assert all(MODELS[name].Config().name == name for name in generative)  # type: ignore[attr-defined]


@every_model
def test_each_turn_has_a_finite_loss_that_reaches_all_of_its_part_and_nothing_else(case: str) -> None:
    model = made(case).train()
    parts = model.parts()
    model.advance(0.5)
    for turn in dict.fromkeys(model.turns()):
        model.requires_grad_(False)
        parts[turn].requires_grad_(True)
        model.zero_grad()
        losses = model.loss(pictures(model), turn)
        assert all(term.ndim == 0 and term.isfinite() for term in losses.values())
        losses["total"].backward()
        own = {id(parameter) for parameter in parts[turn].parameters()}
        for name, parameter in model.named_parameters():
            if id(parameter) in own:
                assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            else:
                assert parameter.grad is None, name


@every_model
def test_parts_share_nothing_and_leave_out_nothing(case: str) -> None:
    model = made(case)
    each = [{id(p) for p in part.parameters()} for part in model.parts().values()]
    assert sum(len(ids) for ids in each) == len(set().union(*each)) == len(list(model.parameters()))
    assert set(model.turns()) == set(model.parts())


@every_model
def test_a_validation_loss_is_one_call_away_and_has_the_same_terms(case: str) -> None:
    model = made(case)
    for turn in dict.fromkeys(model.turns()):
        training = model.train().loss(pictures(model), turn)
        validation = model.eval().loss(pictures(model), turn)  # a gradient penalty needs gradients here too
        assert validation.keys() == training.keys()
        assert all(term.isfinite() for term in validation.values())


@every_model
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("size", [(16, 16), (33, 19)])
def test_any_channels_and_size(case: str, channels: int, size: tuple[int, int]) -> None:
    model = made(case, channels=channels, size=size)
    batch = pictures(model, 2)
    for turn in dict.fromkeys(model.turns()):
        assert model.train().loss(batch, turn)["total"].isfinite()
    model.eval()
    with torch.no_grad():
        if isinstance(model, Draws):
            drawn = model(torch.randn(2, *model.latent_shape), condition(model, 2))
            assert drawn.shape == (2, channels, *size) and in_range(drawn)
        if isinstance(model, Reconstructs):
            again = model.reconstruct(batch.images)
            assert again.shape == batch.images.shape and in_range(again)
        if isinstance(model, Encodes):
            told = condition(model, 2)
            decoded = model.decode(model.encode(batch.images, told), told)
            assert decoded.shape == batch.images.shape and in_range(decoded)
        if isinstance(model, Mends) and not told_by_masks(model):
            images = torch.rand(1, channels, 21, 37)
            known = torch.ones(1, 1, 21, 37)
            known[..., 5:9, 5:9] = 0
            assert model.mend(images).shape == model.mend(images, known).shape == images.shape
            assert in_range(model.mend(images, known))
        if isinstance(model, Bounded):
            bounds = model.bound(batch.images, 3, condition(model, 2))
            assert bounds.shape == (2,) and bounds.isfinite().all()


@every_model
def test_one_picture_and_one_constant_colour_are_learnt_without_harm(case: str) -> None:
    model = made(case).train()
    one = pictures(model, 1)
    flat = Batch(torch.full_like(one.images, 0.5), one.masks, labelled=one.labelled, categories=one.categories)
    for batch in (one, flat):
        for turn in dict.fromkeys(model.turns()):
            total = model.loss(batch, turn)["total"]
            total.backward()
            assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_pictures_without_class_or_mask_are_accepted_where_nothing_is_told(case: str) -> None:
    model = made(case).train()
    if getattr(model.config, "condition", "none") != "none" or told_by_masks(model):
        pytest.skip("it is told what a picture shows")
    batch = pictures(model)
    bare = Batch(batch.images, categories=torch.full((4,), IGNORE))
    assert all(model.loss(bare, turn)["total"].isfinite() for turn in model.turns())


@every_model
def test_a_picture_of_a_seed_is_the_same_whatever_was_asked_for_with_it(case: str) -> None:
    model = made(case).eval()
    if not isinstance(model, Draws):
        pytest.skip("it draws nothing")
    told = condition(model, 2 * CHUNK)
    given = None if told is None else told.__getitem__
    many = list(draw(model, range(CHUNK + 2), 7, given))
    (alone,) = draw(model, [CHUNK + 1], 7, given)
    assert torch.equal(alone, many[CHUNK + 1])
    assert not torch.equal(many[0], many[1])
    (other,) = draw(model, [CHUNK + 1], 8, given)
    assert not torch.equal(alone, other)


@every_model
def test_a_state_dict_is_the_whole_model(case: str) -> None:
    model, other = made(case, seed=1), made(case, seed=2)
    for turn in model.turns():
        model.train().loss(pictures(model), turn)
    other.load_state_dict(model.state_dict())
    for turn in dict.fromkeys(model.turns()):
        torch.manual_seed(5)
        ours = model.eval().loss(pictures(model), turn)["total"]
        torch.manual_seed(5)
        theirs = other.eval().loss(pictures(model), turn)["total"]
        assert torch.equal(ours, theirs)


@every_model
def test_the_exported_graph_computes_the_same(case: str) -> None:
    model = made(case).eval()
    inputs: tuple[Tensor, ...] = (pictures(model, 2).images,)
    if isinstance(model, Pix2Pix):
        inputs = (model.sources(pictures(model, 2)),)
    elif isinstance(model, Draws):
        told = condition(model, 2)
        inputs = (torch.randn(2, *model.latent_shape), *(() if told is None else (told,)))
    exported = torch.export.export(model, inputs)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(*inputs), model(*inputs), rtol=1e-4, atol=1e-4)


@every_model
def test_a_configuration_survives_json_and_toml(case: str) -> None:
    config = made(case).config
    assert ANY_MODEL.validate_json(config.model_dump_json()) == config
    assert ANY_MODEL.validate_python(config.model_dump(mode="json", exclude_none=True)) == config


@every_model
def test_health_is_made_of_known_numbers(case: str) -> None:
    model = made(case).eval()
    known = {
        "kl_dimensions", "means_sum", "means_square_sum", "codes", "critic_real", "critic_fake", "critic_gradient",
    }  # fmt: skip
    with torch.no_grad():
        found = model.health(pictures(model))
    assert found.keys() <= known
    assert all(value.isfinite().all() for value in found.values())


@every_model
def test_sixty_steps_on_one_batch_lower_what_is_learnt_by_descent(case: str) -> None:
    model = made(case).train()
    if len(model.parts()) > 1:
        pytest.skip("a game has no loss that must fall")
    batch = pictures(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(60):
        optimizer.zero_grad()
        total = model.loss(batch)["total"]
        total.backward()
        optimizer.step()
        model.advance(0.5)
        totals.append(total.item())
    assert sum(totals[-10:]) < sum(totals[:10])
