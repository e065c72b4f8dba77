"""The shape prior by construction: masks of one rectangle each. A prior that has learnt them closes holes, removes
crumbs, and draws rectangles."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import as_labels, made, squares, without_labels
from torch import Tensor

from intarsia.errors import UsageError
from intarsia.models.combined import ShapePrior
from intarsia.models.sampling import generator_of
from intarsia.records import IGNORE, Batch

SIDE = 16


def small(**options: Any) -> ShapePrior:
    model = made("shape_prior", **options)
    assert isinstance(model, ShapePrior)
    return model.train()


def rectangles(count: int, seed: int) -> Tensor:
    """(N, SIDE, SIDE) int64: one rectangle of class 1 of 6 to 10 pixels a side on class 0."""
    drawn = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    for mask in masks:
        height, width = torch.randint(6, 11, (2,), generator=drawn).tolist()
        top = int(torch.randint(0, SIDE - height + 1, (), generator=drawn))
        left = int(torch.randint(0, SIDE - width + 1, (), generator=drawn))
        mask[top : top + height, left : left + width] = 1
    return masks


def pictured(masks: Tensor) -> Batch:
    return Batch(torch.rand(len(masks), 3, *masks.shape[1:]), masks)


def one_hot(masks: Tensor) -> Tensor:
    return F.one_hot(masks, 2).movedim(-1, 1).float()


@pytest.fixture(scope="module")
def learnt() -> ShapePrior:
    """A prior that has seen rectangles for some seconds, damaged ones on the way in."""
    model = small(latent=8, width=8, damage=0.7)
    optimizer = torch.optim.Adam(model.prior.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        model.loss(pictured(rectangles(32, step)), "prior")["total"].backward()
        optimizer.step()
    return model.eval()


def test_it_gives_true_masks_back_and_says_so(learnt: ShapePrior) -> None:
    terms = learnt.loss(pictured(rectangles(64, 10_000)), "prior")
    assert terms["iou"] > 0.8 and learnt.faithfulness > 0.7
    assert terms["kl"] > 2  # nats: the latent holds something


def test_it_mends_holes_and_crumbs(learnt: ShapePrior) -> None:
    masks = rectangles(64, 20_000)
    broken = masks.clone()
    for mask in broken:  # a hole in the middle of the rectangle, and a crumb in a far corner
        y, x = (int(axis.float().mean()) for axis in mask.nonzero(as_tuple=True))
        mask[y - 1 : y + 2, x - 1 : x + 2] = 0
        mask[0 if y > SIDE // 2 else -1, 0 if x > SIDE // 2 else -1] = 1
    mended = learnt.corrected(one_hot(broken))
    torch.testing.assert_close(mended.sum(dim=1), torch.ones(64, SIDE, SIDE))

    def iou(answer: Tensor) -> float:
        return float(((answer == 1) & (masks == 1)).sum() / ((answer == 1) | (masks == 1)).sum())

    assert iou(mended.argmax(dim=1)) > 0.7  # the shape is still there
    inside = (masks == 1) & (broken == 0)
    assert (mended[:, 1][inside] > 0.5).float().mean() > 0.9  # the holes are closed
    crumbs = (masks == 0) & (broken == 1)
    assert (mended[:, 1][crumbs] < 0.5).float().mean() > 0.9


def test_corrections_come_back_at_any_size(learnt: ShapePrior) -> None:
    answers = torch.rand(2, 2, 37, 50).softmax(dim=1)
    mended = learnt.corrected(answers)
    assert mended.shape == answers.shape and not mended.requires_grad
    torch.testing.assert_close(mended.sum(dim=1), torch.ones(2, 37, 50))


def test_it_draws_masks_like_those_it_saw(learnt: ShapePrior) -> None:
    drawn = learnt.draw_masks(40, [generator_of(1, i) for i in range(40)])
    assert drawn.shape == (40, SIDE, SIDE) and drawn.dtype == torch.int64
    assert drawn.unique().tolist() == [0, 1]
    filled = []
    for mask in drawn:
        if not mask.any():
            continue
        y, x = mask.nonzero(as_tuple=True)
        box = (y.max() - y.min() + 1) * (x.max() - x.min() + 1)
        filled.append(float(len(y) / box))
    assert len(filled) >= 36
    assert sum(filled) / len(filled) > 0.75  # near to rectangles: they fill their boxes
    assert 20 < drawn.flatten(1).sum(dim=1).float().mean() < 110  # those seen have 64 on average
    assert len({tuple(mask.flatten().tolist()) for mask in drawn}) > 30


def test_a_mask_has_a_number(learnt: ShapePrior) -> None:
    five = learnt.draw_masks(5, [generator_of(3, i) for i in range(5)])
    last = learnt.draw_masks(1, [generator_of(3, 4)])
    assert torch.equal(five[4:], last)
    usual = learnt.draw_masks(2, [generator_of(3, i) for i in range(2)], temperature=0.0)
    assert torch.equal(usual[0], usual[1])
    assert learnt.draw_masks(0, []).shape == (0, SIDE, SIDE)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="2 masks were asked for with 1 generators"):
        small().draw_masks(2, [generator_of(0, 0)])
    with pytest.raises(UsageError, match="temperature of 0 or more"):
        small().draw_masks(1, [generator_of(0, 0)], temperature=-1.0)


def test_planes_are_shares_of_what_a_pixel_covers() -> None:
    model = small(mask_size=(8, 8), classes=3)
    masks = torch.zeros(1, 16, 16, dtype=torch.int64)
    masks[0, :2, :2] = torch.tensor([[1, 1], [2, IGNORE]])
    masks[0, 2:4, :2] = IGNORE
    shares, certain = model.planes(Batch(torch.rand(1, 3, 16, 16), masks))
    assert shares[0, :, 0, 0].tolist() == [0, 0.5, 0.25] and certain[0, 0, 0, 0] == 0.75
    assert shares[0, :, 1, 0].tolist() == [0, 0, 0] and certain[0, 0, 1, 0] == 0
    assert (shares[0, 0, 2:] == 1).all()


def test_what_nobody_labelled_does_not_teach_the_prior() -> None:
    model, masks = small(damage=0.0), rectangles(2, 1)
    masks[:, :, 8:] = IGNORE
    batch = pictured(masks)
    shares, certain = model.planes(batch)
    assert certain[..., 8:].sum() == 0 and shares[..., 8:].sum() == 0
    logits = torch.zeros(2, 2, SIDE, SIDE, requires_grad=True)
    surprise = (-shares * logits.log_softmax(dim=1)).sum()
    surprise.backward()
    assert logits.grad is not None and logits.grad[..., 8:].count_nonzero() == 0
    torch.testing.assert_close(surprise.item(), 2 * SIDE * 8 * math.log(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_bound_is_what_it_says(overlapping: bool) -> None:
    """A decoder that says nothing: each pixel costs log 2, in every class where they overlap."""
    model = small(overlapping=overlapping, beta=0.5).eval()
    with torch.no_grad():
        for parameter in model.prior.decoder.parameters():
            parameter.zero_()
    batch = pictured(rectangles(3, 1))
    terms = model.loss(as_labels(batch) if overlapping else batch, "prior")
    questions = SIDE * SIDE * (2 if overlapping else 1)
    torch.testing.assert_close(terms["reconstruction"].item(), questions * math.log(2), rtol=1e-5, atol=1e-3)
    expected = (terms["reconstruction"] + 0.5 * terms["kl"]) / SIDE**2
    torch.testing.assert_close(terms["total"], expected)


def test_damage_changes_some_masks_and_leaves_shares() -> None:
    model, planes = small(damage=0.5), one_hot(rectangles(64, 3))
    damaged = model.damaged(planes)
    torch.testing.assert_close(damaged.sum(dim=1), torch.ones(64, SIDE, SIDE))
    changed = (damaged != planes).flatten(1).any(dim=1).float().mean()
    assert 0.5 < changed < 0.95  # a rectangle or softness, each of half of them
    assert torch.equal(small(damage=0.0).damaged(planes), planes)


def test_a_divergence_of_an_answer_from_itself_is_nothing() -> None:
    for overlapping in (False, True):
        model = small(overlapping=overlapping)
        one, other = torch.randn(2, 2, 2, 4, 4).softmax(dim=2)
        assert model._divergence(one, one).item() == pytest.approx(0, abs=1e-6)
        assert model._divergence(one, other) > 0


def test_no_gradient_goes_through_what_was_mended() -> None:
    model = small(warmup=0.0)
    terms = model.loss(without_labels(squares()))
    terms["total"].backward()
    assert terms["shape"] > 0
    assert all(parameter.grad is None for parameter in model.prior.parameters())
    grads = [p.grad for p in model.segmenter.parameters() if p.grad is not None]
    assert any(grad.count_nonzero() > 0 for grad in grads)


def test_the_prior_is_heard_softly_at_first_and_all_of_it_in_the_end() -> None:
    model = small(warmup=0.5)
    weights = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        model.advance(progress)
        weights.append(model.heard.item())
    assert weights == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1])
    assert small(warmup=0.0).heard == 1


def test_an_unfaithful_prior_is_not_heard() -> None:
    """Masks of noise have no shape: no small latent holds them."""
    model = small(memory=0.8, warmup=0.0)
    assert model.trusted == 1
    noise = pictured(torch.randint(0, 2, (16, SIDE, SIDE), generator=torch.Generator().manual_seed(0)))
    for _ in range(20):
        model.loss(noise, "prior")
    terms = model.loss(squares())
    assert terms["trusted"] == 0
    torch.testing.assert_close(terms["total"], terms["cross_entropy"])


def test_unlabelled_pictures_are_compared_where_there_are_some_and_else_all() -> None:
    model = small().eval()
    known = squares()
    assert known.masks is not None
    other = torch.rand_like(known.images)
    masks = torch.cat([known.masks, torch.full_like(known.masks, IGNORE)])
    mixed = Batch(torch.cat([known.images, other]), masks, labelled=torch.tensor([True, True, False, False]))
    bare = without_labels(Batch(other, known.masks))
    torch.testing.assert_close(model.loss(mixed)["shape"], model.loss(bare)["shape"], rtol=1e-4, atol=1e-6)
    assert model.loss(known)["shape"] > 0


def test_without_masks_the_prior_learns_nothing() -> None:
    model = small()
    terms = model.loss(without_labels(squares()), "prior")
    terms["total"].backward()
    assert terms["total"] == 0 and terms["iou"] == 0.75
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in model.prior.parameters())


def test_masks_of_overlapping_classes_are_drawn_as_planes() -> None:
    model = small(overlapping=True, classes=3).eval()
    drawn = model.draw_masks(2, [generator_of(0, i) for i in range(2)])
    assert drawn.shape == (2, 3, SIDE, SIDE) and set(drawn.unique().tolist()) <= {0, 1}
