"""What every model of objects promises, over the whole dictionary; a new one needs a line in SMALL."""

from typing import Any

import numpy as np
import pytest
import torch
from small_models import ANY_MODEL

from intarsia.data.batches import collate
from intarsia.metrics.matching import MatchingScore
from intarsia.models import MODELS, InstanceModel, build
from intarsia.records import IGNORE, Batch, Detections, Instances, Sample

UNET = {"name": "unet", "width": 8, "depth": 2}
SMALL: dict[str, dict[str, Any]] = {
    "instance_segnet": {"name": "instance_segnet", "segmenter": UNET},
    "instance_segnet-segnet": {"name": "instance_segnet", "segmenter": {"name": "segnet", "width": 8}, "pyramid": ()},
    "instance_segnet-alpha": {"name": "instance_segnet", "segmenter": UNET, "alpha": 0.3},
    "watershed": {"name": "watershed", "segmenter": UNET},
    "mask_rcnn": {"name": "mask_rcnn", "encoder": "tiny"},
}
SMALL = {case: options for case, options in SMALL.items() if options["name"] in MODELS}
every_model = pytest.mark.parametrize("case", SMALL)


def made(case: str, seed: int = 0, **options: Any) -> InstanceModel[Any]:
    torch.manual_seed(seed)
    model = build(ANY_MODEL.validate_python({**SMALL[case], **options}))
    assert isinstance(model, InstanceModel)
    return model


def scene(height: int = 64, width: int = 96, channels: int = 3, seed: int = 0) -> Sample:
    """Two bright squares that touch (class 1) and a bright bar (class 2) on a dark, noisy ground."""
    image = 0.3 * np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)
    labels = np.zeros((height, width), np.int32)
    for number, (top, left, high, wide) in enumerate([(8, 8, 20, 20), (8, 28, 20, 20), (40, 10, 12, 24)], start=1):
        labels[top : top + high, left : left + wide] = number
        image[top : top + high, left : left + wide] += 0.3 + 0.1 * number
    return Sample(f"scene {seed}", image, instances=Instances(labels, np.array([1, 1, 2], np.int16)))


def scenes(count: int = 2, **options: Any) -> Batch:
    return collate([scene(seed=number, **options) for number in range(count)])


def unlabelled(batch: Batch) -> Batch:
    objects = torch.full(batch.images.shape[:1] + batch.images.shape[2:], IGNORE)
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(
        batch.images, torch.full_like(objects, IGNORE), objects=objects, object_classes=(nothing,) * len(batch)
    )


def test_every_model_has_a_case_and_its_own_name() -> None:
    models = {name: model for name, model in MODELS.items() if issubclass(model, InstanceModel)}
    assert {options["name"] for options in SMALL.values()} == models.keys()
    assert all(model.Config().name == name for name, model in models.items())  # type: ignore[attr-defined]
    assert all(model.candidates for model in models.values())


@every_model
def test_the_loss_is_finite_and_reaches_every_parameter(case: str) -> None:
    model = made(case, classes=3).train()
    losses = model.loss(scenes())
    assert all(term.ndim == 0 and term.isfinite() for term in losses.values())
    losses["total"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@every_model
def test_a_validation_loss_is_one_call_away_and_has_the_same_terms(case: str) -> None:
    model = made(case, classes=3)
    training = model.train().loss(scenes())
    with torch.no_grad():
        validation = model.eval().loss(scenes())
    assert validation.keys() == training.keys()
    assert all(term.isfinite() for term in validation.values())


@every_model
def test_pictures_that_nobody_labelled_teach_nothing_about_objects(case: str) -> None:
    model = made(case, classes=3).train()
    losses = model.loss(unlabelled(scenes()))
    assert all(value == 0 for name, value in losses.items() if name not in ("total", "reconstruction")), losses
    losses["total"].backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    learns = "reconstruction" in losses
    assert any(bool(gradient.count_nonzero()) for gradient in gradients) == learns


@every_model
def test_pictures_without_objects_are_learnt_from(case: str) -> None:
    sample = scene()
    empty = Instances(np.zeros(sample.size, np.int32), np.zeros(0, np.int16))
    batch = collate([Sample("empty", sample.image, instances=empty)] * 2)
    model = made(case, classes=3).train()
    losses = model.loss(batch)
    losses["total"].backward()
    assert losses["total"].isfinite() and losses["total"] > 0
    assert len(model.eval().predict(batch.images)) == 2


@every_model
def test_one_object_may_fill_the_picture(case: str) -> None:
    whole = Instances(np.ones((48, 48), np.int32), np.array([1], np.int16))
    batch = collate([Sample("whole", np.full((48, 48, 3), 0.5, np.float32), instances=whole)] * 2)
    losses = made(case).train().loss(batch)
    losses["total"].backward()
    assert losses["total"].isfinite()


@every_model
@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 3), (33, 57, 1), (64, 96, 5)])
def test_any_size_and_channels_give_objects_at_that_size(case: str, height: int, width: int, channels: int) -> None:
    model = made(case, classes=3, channels=channels).eval()
    for found in model.predict(torch.rand(2, channels, height, width)):
        assert found.label_image.shape == (height, width) and found.label_image.dtype == np.int32
        assert found.scores is not None and len(found.scores) == len(found.classes)
        assert found.label_image.max(initial=0) == len(found)
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.classes >= 1) & (found.classes < 3)).all()


@every_model
def test_answers_are_maps_of_one_kind_or_detections(case: str) -> None:
    model = made(case, classes=3).eval()
    for answer in model.answers(scenes().images):
        if isinstance(answer, Detections):
            assert answer.size == (64, 96)
        else:
            assert answer.dtype == np.float32 and answer.shape[1:] == (64, 96)


@every_model
def test_a_mirrored_answer_is_that_of_the_mirror_image(case: str) -> None:
    """A network that sees mirror images alike does not exist; the maps' own signs are what is held here."""
    model = made(case, classes=3).eval()
    if not hasattr(model, "mirrored"):
        pytest.skip("its answer is no map")
    maps = next(iter(model.answers(scenes().images)))
    np.testing.assert_array_equal(model.mirrored(model.mirrored(maps)), maps)
    original, mirrored = model.objects(maps), model.objects(model.mirrored(maps))
    assert len(original) == len(mirrored)


@every_model
def test_a_hundred_steps_find_the_objects(case: str) -> None:
    torch.manual_seed(0)
    model = made(case, classes=3).train()
    if case.startswith("mask_rcnn"):
        pytest.skip("it has a test of its own, with the steps that it takes")
    batch = scenes()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch)["total"].backward()
        optimizer.step()
    assert batch.objects is not None
    for answer, truth in zip(model.eval().answers(batch.images), batch.objects.numpy(), strict=True):
        found = model.objects(answer, {"core": 0.2} if "core" in model.thresholds else None)
        assert MatchingScore.of(truth, found.label_image).at("recall") >= 2 / 3


@every_model
def test_the_exported_graph_computes_the_same(case: str) -> None:
    if case.startswith("mask_rcnn"):
        pytest.skip("it has a test of its own, which asks the graph about another picture")
    model = made(case, classes=3).eval()
    images = torch.rand(1, 3, 64, 96)
    exported = torch.export.export(model, (images,)).module()(images)
    for ours, theirs in zip(_tensors(model(images)), _tensors(exported), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@every_model
def test_a_configuration_survives_json_and_toml(case: str) -> None:
    config = made(case).config
    assert ANY_MODEL.validate_json(config.model_dump_json()) == config
    assert ANY_MODEL.validate_python(config.model_dump(mode="json", exclude_none=True)) == config


@every_model
def test_a_state_dict_is_the_whole_model(case: str) -> None:
    model, other = made(case, seed=1, classes=3), made(case, seed=2, classes=3).eval()
    model.train().loss(scenes())
    other.load_state_dict(model.eval().state_dict())
    images = scenes().images
    for ours, theirs in zip(model.predict(images), other.predict(images), strict=True):
        np.testing.assert_array_equal(ours.label_image, theirs.label_image)


def _tensors(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)
