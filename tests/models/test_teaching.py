"""Teachers: what they are made of, when they are heard, whom they believe."""

from __future__ import annotations

import math

import pytest
import torch
from small_models import made, squares, without_labels

from intarsia.models.combined import FixMatch, UniMatch
from intarsia.models.combined.teaching import Teaching
from intarsia.records import Batch

TEACHERS = ("mean_teacher", "fixmatch", "unimatch")


def taught(case: str, **options: object) -> Teaching:
    model = made(case, **options)
    assert isinstance(model, Teaching)
    return model


@pytest.mark.parametrize("case", TEACHERS)
def test_the_teacher_is_the_moving_average_of_the_student(case: str) -> None:
    model = taught(case, teacher_decay=0.9)
    name = "classifier.bias"
    before = model.teacher.state_dict()[name].clone()
    with torch.no_grad():
        model.segmenter.state_dict()[name].add_(1.0)
    model.updates.fill_(1000)
    model.advance(0.5)
    torch.testing.assert_close(model.teacher.state_dict()[name], before + 0.1)
    model.updates.fill_(0)  # at first it follows at once: 1/10 stays
    now, student = model.teacher.state_dict()[name].clone(), model.segmenter.state_dict()[name]
    model.advance(0.5)
    torch.testing.assert_close(model.teacher.state_dict()[name], 0.1 * now + 0.9 * student)


@pytest.mark.parametrize("case", TEACHERS)
def test_no_optimizer_knows_the_teacher_and_it_never_trains(case: str) -> None:
    model = taught(case).train()
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    owned = {id(parameter) for part in model.parts().values() for parameter in part.parameters()}
    assert not owned & {id(parameter) for parameter in model.teacher.parameters()}
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    model.loss(squares())["total"].backward()
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())


def test_the_teacher_is_heard_more_and_more() -> None:
    model = taught("fixmatch", consistency=2.0, warmup=0.5)
    heard = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        model.advance(progress)
        heard.append(float(model.heard))
    assert heard == pytest.approx([2 * math.exp(-5), 2 * math.exp(-1.25), 2, 2])
    assert float(taught("fixmatch", warmup=0.0).heard) == 1


def test_a_picture_that_was_pasted_in_brings_its_answer() -> None:
    model = taught("fixmatch", strength=0.0, mix_probability=1.0)
    assert isinstance(model, FixMatch)
    images = torch.stack([torch.full((3, 32, 32), 0.2), torch.full((3, 32, 32), 0.8)])
    answer = torch.stack([torch.zeros(32, 32), torch.ones(32, 32)]).long()
    torch.manual_seed(0)
    view, mixed, weight = model.strong_view(images, torch.rand(2, 2, 32, 32), answer, answer.float())
    assert 0 < mixed[0].float().mean() < 1
    assert torch.equal(view[:, 0] > 0.5, mixed == 1)
    assert torch.equal(weight, mixed.float())


def test_the_believed_share_is_told_and_nobody_is_believed_who_is_unsure() -> None:
    model = taught("fixmatch", threshold=1.0, thresholds="fixed").train()
    losses = model.loss(without_labels(squares()))
    assert losses["believed"] == 0 and losses["consistency"] == 0


def test_a_class_that_is_never_sure_is_believed_by_its_own_measure() -> None:
    model = taught("fixmatch", classes=2, threshold=0.9, thresholds="class").train()
    assert isinstance(model, FixMatch)
    sure, unsure = torch.tensor([0.99, 0.01]), torch.tensor([0.4, 0.6])
    target = torch.stack([sure, unsure]).T.reshape(1, 2, 1, 2).repeat(1, 1, 8, 4)
    for _ in range(200):
        answer, weight = model.believed(target)
    assert weight.mean() == 1
    fixed = taught("fixmatch", classes=2, threshold=0.9, thresholds="fixed")
    assert isinstance(fixed, FixMatch)
    assert fixed.believed(target)[1][answer == 1].max() == 0


def test_the_third_view_of_unimatch_is_the_students_answer_where_nothing_is_dropped() -> None:
    model = taught("unimatch", features_dropped=0.3).eval()
    assert isinstance(model, UniMatch)
    images = torch.rand(2, 3, 33, 47)
    torch.manual_seed(0)
    dropped = model.dropped(images)
    assert dropped is not None and dropped.shape == (2, 2, 33, 47)
    assert not torch.allclose(dropped, model(images))
    assert taught("unimatch", features_dropped=0.0).dropped(images) is None
    segnet = taught("unimatch", segmenter={"name": "segnet", "width": 8}, features_dropped=0.5)
    assert segnet.dropped(images) is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", TEACHERS)
def test_labelled_pictures_alone_are_enough(case: str) -> None:
    model = taught(case).train()
    batch = squares()
    losses = model.loss(Batch(batch.images, batch.masks))  # `labelled` is not said: it follows from the masks
    assert losses["total"].isfinite() and losses["cross_entropy"] > 0
