"""What is special to Mask R-CNN: boxes and masks of known truth, torchvision's detections, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from intarsia.data.batches import collate
from intarsia.data.run_lengths import mask_in_box
from intarsia.data.scenes import SceneConfig, draw_scene
from intarsia.errors import DataError, UsageError
from intarsia.grouping import laid_on_pixels, pixel_boxes
from intarsia.metrics.matching import matched, overlaps
from intarsia.models.instance.anchors import STRIDES, fit_anchors, shape_iou, usual_anchors
from intarsia.models.instance.boxes import (
    boxes_of,
    cut_out,
    paired,
    sampled,
    shares,
    softly_suppressed,
    suppressed,
)
from intarsia.models.instance.mask_rcnn import MaskRCNN, MaskRCNNConfig
from intarsia.models.weights import fetch_torchvision, load_torchvision, mask_rcnn_config, without_epsilon
from intarsia.records import IGNORE, Batch, Detections, Instances, Sample

TINY: dict[str, Any] = {
    "encoder": "tiny", "pyramid": 16, "mask_width": 16, "mask_depth": 2, "box_width": 32, "proposals": 60,
    "proposals_a_level": 60, "detections": 20, "anchor_samples": 64, "box_samples": 32, "mask_size": 14,
}  # fmt: skip


def tiny(**changes: Any) -> MaskRCNN:
    torch.manual_seed(1)
    return MaskRCNN(MaskRCNNConfig(**{**TINY, "classes": 3, **changes})).eval()


def batch_of(*label_images: np.ndarray, channels: int = 3, classes: int = 3) -> Batch:
    """Pictures that show their label images, more or less; objects are of class 1, 2, 1, 2, ..."""
    samples = []
    for number, label_image in enumerate(label_images):
        count = int(label_image.max(initial=0))
        kinds = (np.arange(count) % (classes - 1) + 1).astype(np.int16)
        image = np.repeat((label_image[:, :, None] > 0) * np.float32(0.8), channels, axis=2)
        instances = Instances(label_image.astype(np.int32), kinds)
        samples.append(Sample(str(number), image, mask=instances.mask, instances=instances))
    return collate(samples)


def disks(size: int = 48) -> np.ndarray:
    label_image = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    for number, (row, column, radius) in enumerate([(12, 13, 8), (34, 30, 10)], start=1):
        label_image[np.hypot(y - row, x - column) < radius] = number
    return label_image


# ------------------------------------------------------------------------------------------ boxes


def test_boxes_and_masks_of_a_label_image_by_eye() -> None:
    label_image = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 3], [-1, -1, 0, 3]])
    assert boxes_of(label_image, 3).tolist() == [[1, 0, 3, 2], [0, 0, 0, 0], [3, 1, 4, 3]]
    assert boxes_of(torch.full((2, 2), IGNORE), 0).shape == (0, 4)
    inside, known = cut_out(label_image, torch.tensor([[1.0, 0.0, 3.0, 2.0]]), torch.tensor([1]), 2, centre=0.5)
    # each cell is a pixel; its four samples lie a quarter pixel off its centre, and see a quarter of the neighbours
    expected = torch.tensor([[1.0, 0.75 + 0.25 * 0.75 / 2], [0.0, 0.0]])
    assert inside[0, 0, 0] > 0.85 and inside[0, 1, 1] < 0.3 and inside[0, 0, 1] > expected[1, 0]
    assert known[0, 0].tolist() == [1.0, 1.0]
    halves = cut_out(label_image, torch.tensor([[0.0, 0.0, 4.0, 3.0]]), torch.tensor([1]), 4, centre=0.5)[1]
    assert halves[0, -1, 0] < 0.2 < 0.9 < halves[0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(
    low=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    centre=st.just(0.5),
)
def test_a_mask_cut_out_of_its_own_box_comes_back(low: Any, size: Any, centre: float) -> None:
    """A solid object fills its box, so that cutting it out and laying it on pixels again is the identity."""
    label_image = torch.zeros(33, 35, dtype=torch.int64)
    label_image[low[0] : low[0] + size[0], low[1] : low[1] + size[1]] = 1
    box = boxes_of(label_image, 1)
    values, _ = cut_out(label_image, box, torch.tensor([1]), 28, centre)
    pixels = pixel_boxes(box.numpy(), (33, 35), centre)
    mask = laid_on_pixels(values[0].numpy(), box[0].numpy(), pixels[0], centre, 0.499)
    left, top, right, bottom = pixels[0]
    assert (left, top, right, bottom) == (low[1], low[0], low[1] + size[1], low[0] + size[0])
    assert mask.all()


def test_a_disk_survives_being_cut_out_and_laid_down_in_a_box_that_is_not_its_own() -> None:
    label_image = torch.from_numpy(disks()).long()
    box = torch.tensor([[18.3, 22.6, 41.7, 45.2]])
    values, _ = cut_out(label_image, box, torch.tensor([2]), 28, 0.5)
    pixels = pixel_boxes(box.numpy(), (48, 48), 0.5)[0]
    mask = laid_on_pixels(values[0].numpy(), box[0].numpy(), pixels, 0.5, 0.5)
    left, top, right, bottom = pixels
    true = disks()[top:bottom, left:right] == 2
    assert np.count_nonzero(mask & true) / np.count_nonzero(mask | true) > 0.97


def test_masks_are_laid_where_torchvision_lays_them() -> None:
    """Within the pixel that its rounding of boxes costs."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    y, x = (np.mgrid[:28, :28] + 0.5) / 28
    values = np.clip(1.5 - 2.2 * np.hypot(y - 0.5, x - 0.5), 0, 1).astype(np.float32)
    box = np.array([[30.4, 20.7, 110.2, 90.9]], np.float32)
    theirs = paste_masks_in_image(torch.from_numpy(values)[None, None], torch.from_numpy(box), (128, 128))[0, 0] > 0.5
    pixels = pixel_boxes(box, (128, 128), 0.0)[0]
    ours = np.zeros((128, 128), bool)
    left, top, right, bottom = pixels
    ours[top:bottom, left:right] = laid_on_pixels(values, box[0], pixels, 0.0, 0.5)
    assert np.count_nonzero(ours & theirs.numpy()) / np.count_nonzero(ours | theirs.numpy()) > 0.96


def test_a_box_narrower_than_a_pixel_has_one_and_all_lie_in_the_picture() -> None:
    boxes = np.array([[3.1, 2.1, 3.2, 2.2], [9.9, 9.9, 10.0, 10.0], [-3.0, -2.0, 0.2, 0.1]])
    pixels = pixel_boxes(boxes, (10, 10), 0.5)
    assert pixels.tolist() == [[3, 2, 4, 3], [9, 9, 10, 10], [0, 0, 1, 1]]


def test_shares_of_marked_pixels() -> None:
    where = torch.zeros(8, 8, dtype=torch.bool)
    where[:, :3] = True
    boxes = torch.tensor([[0.0, 0, 6, 8], [0, 0, 3, 3], [4, 0, 8, 8], [2, 2, 2, 2]])
    assert shares(boxes, where).tolist() == [0.5, 1.0, 0.0, 0.0]


def test_pairing_in_chunks_is_pairing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(40, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 1 + 20 * torch.rand(40, 2, generator=generator)], dim=1)
    whole = paired(boxes[:9], boxes[9:])
    monkeypatch.setattr("intarsia.models.instance.boxes.CHUNK", 62)  # two objects at a time
    parts = paired(boxes[:9], boxes[9:])
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
    assert 1 <= int(whole.chosen.sum()) <= 9


def test_samples_are_of_the_asked_for_number_and_never_of_the_unknown() -> None:
    labels = torch.tensor([1] * 5 + [0] * 50 + [-1] * 20)
    positive, negative = sampled(labels, 16, 0.25)
    assert len(positive) == 4 and len(negative) == 12
    assert (labels[positive] == 1).all() and (labels[negative] == 0).all()
    positive, negative = sampled(labels[:7], 16, 0.5)
    assert len(positive) == 5 and len(negative) == 2


# ------------------------------------------------------------------------------------------ suppression


def test_suppression_takes_the_worse_of_two_in_a_group_and_leaves_other_groups() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [30, 30, 40, 40], [5, 5, 5, 5]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.99])
    valid = torch.tensor([True, True, True, True, False])
    groups = torch.tensor([1, 1, 2, 1, 1])
    assert suppressed(boxes, scores, groups, valid, 0.5).tolist() == pytest.approx([0.9, -1, 0.7, 0.6, -1])
    assert suppressed(boxes, scores, groups * 0, valid, 0.5).tolist() == pytest.approx([0.9, -1, -1, 0.6, -1])


def test_suppression_is_torchvisions() -> None:
    from torchvision.ops import batched_nms

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=generator) * 80
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(300, 2, generator=generator)], dim=1)
    scores, groups = torch.rand(300, generator=generator), torch.randint(1, 5, (300,), generator=generator)
    ours = suppressed(boxes, scores, groups, scores > 0.1, 0.4)
    left = (scores > 0.1).nonzero().flatten()
    theirs = left[batched_nms(boxes[left], scores[left], groups[left], 0.4)]
    assert torch.equal(ours.argsort(descending=True)[: len(theirs)], theirs)
    assert int((ours >= 0).sum()) == len(theirs)


def test_soft_suppression_lowers_by_the_gaussian_of_the_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10], [50, 50, 60, 60]])  # IoU 0.5 with the first
    scores = torch.tensor([0.9, 0.8, 0.85, 0.1])
    groups = torch.tensor([1, 1, 2, 1])
    found = softly_suppressed(boxes, scores, groups, 10, 0.05)
    assert found.tolist() == pytest.approx([0.9, 0.8 * np.exp(-(0.5**2) / 0.5), 0.85, 0.1])
    # in one group the third, the first's double, falls to 0.85 exp(-2)
    together = softly_suppressed(boxes, scores, groups * 0, 10, 0.3)
    assert together.tolist() == pytest.approx([0.9, 0.8 * np.exp(-0.5), -1, -1])
    assert int((softly_suppressed(boxes, scores, groups, 2, 0.05) >= 0).sum()) == 2


# ------------------------------------------------------------------------------------------ anchors


def test_anchors_fit_the_sizes_they_were_fitted_to() -> None:
    generator = np.random.default_rng(0)
    small = generator.uniform(9, 22, (200, 2))
    fitted = fit_anchors(small)
    assert len(fitted.sizes) == len(STRIDES)
    assert all(
        low[0] * 2 == pytest.approx(high[0], abs=0.2) for low, high in zip(fitted.sizes, fitted.sizes[1:], strict=False)
    )
    assert fitted.iou > shape_iou(small, usual_anchors(), (0.5, 1.0, 2.0)) + 0.3
    assert fitted.iou == pytest.approx(shape_iou(small, fitted.sizes, fitted.ratios))


def test_flat_objects_get_flat_anchors_and_squares_one_ratio() -> None:
    flat = np.stack([np.full(50, 20.0), np.full(50, 80.0)], axis=1)
    assert fit_anchors(flat).ratios == (0.25,)
    assert fit_anchors(np.full((10, 2), 30.0)).ratios == (1.0,)
    assert fit_anchors(np.full((10, 2), 3000.0)).sizes == usual_anchors()  # as large as they get
    assert fit_anchors(np.full((10, 2), 0.5)).sizes[0][0] == STRIDES[0]
    assert fit_anchors(np.zeros((0, 2))).sizes == usual_anchors()
    with pytest.raises(DataError, match="above 0"):
        fit_anchors(np.zeros((3, 2)))


def test_a_configuration_that_can_not_be_is_refused() -> None:
    with pytest.raises(ValidationError, match="above 0"):
        MaskRCNNConfig(anchor_ratios=(0.0,))
    with pytest.raises(ValidationError, match="as many sizes"):
        MaskRCNNConfig(anchor_sizes=((8.0,), (16.0, 20.0)))
    with pytest.raises(UsageError, match="for 2 levels, but there are 5"):
        tiny(anchor_sizes=((8.0,), (16.0,)))
    with pytest.raises(UsageError, match="not at 1/2"):
        tiny(encoder="timm/convnext_atto", finest=2)


# ------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_finite_and_reach_every_weight(training: bool) -> None:
    model = tiny(anchor_samples=2000).train(training)  # of every level
    terms = model.loss(batch_of(disks(), np.zeros((48, 48), np.int32)))
    assert list(terms) == ["objectness", "proposal_box", "class", "box", "mask", "total"]
    assert all(torch.isfinite(value) for value in terms.values())
    assert float(terms["total"].detach()) == pytest.approx(
        sum(float(v.detach()) for k, v in terms.items() if k != "total")
    )
    assert all(float(value.detach()) > 0 for value in terms.values())
    terms["total"].backward()
    without = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    assert without == [] or all(".bias" in name or "norm" in name for name in without)
    assert list(model.parts()) == ["model"]


def test_the_loss_is_the_same_in_training_and_evaluation_where_norms_are_frozen() -> None:
    model, batch = tiny(frozen_norm=True), batch_of(disks())
    values = []
    for training in (True, False):
        torch.manual_seed(5)
        values.append(float(model.train(training).loss(batch)["total"].detach()))
    assert values[0] == values[1]
    assert not any(each.training for each in model.encoder.modules() if isinstance(each, nn.BatchNorm2d))


def test_nothing_labelled_is_a_loss_of_0_with_gradients_of_0() -> None:
    model = tiny().train()
    batch = batch_of(np.full((32, 32), IGNORE), np.full((32, 32), IGNORE))
    for each in (batch, replace(batch, objects=None, object_classes=())):
        terms = model.loss(each)
        assert {float(value.detach()) for value in terms.values()} == {0.0}
        model.zero_grad()
        terms["total"].backward()
        assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


def test_an_unlabelled_picture_adds_nothing() -> None:
    model = tiny()
    blank = np.full((48, 48), IGNORE)
    values = []
    for batch in (batch_of(disks()), batch_of(disks(), blank)):
        torch.manual_seed(5)
        values.append(float(model.loss(batch)["total"].detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_a_picture_without_objects_teaches_the_background() -> None:
    model = tiny().train()
    batch = batch_of(np.zeros((48, 48), np.int32))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    before = model.loss(batch)
    assert float(before["mask"].detach()) == float(before["box"].detach()) == 0
    for _ in range(12):
        terms = model.loss(batch)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert float(terms["class"].detach()) < 0.5 * float(before["class"].detach())


def test_what_nobody_labelled_is_no_background() -> None:
    """Boxes that lie mostly in it are not learnt from: whatever the picture shows there, the loss stays."""
    from intarsia.models.instance.truths import labels_of, truth_of

    label_image = torch.from_numpy(disks()).long()
    label_image[:, 24:] = IGNORE
    scale = torch.ones(4)
    truth = truth_of(label_image, torch.tensor([1, 2]), scale)
    boxes = torch.tensor([[0.0, 30, 10, 40], [30, 0, 40, 10], [20, 20, 44, 44], [5, 4, 21, 20]])
    labels, best = labels_of(truth, boxes, low=0.3, high=0.7, each=False, scale=scale)
    assert labels.tolist() == [0, -1, -1, 1]
    assert best[3] == 0


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (64, 32)])
def test_pictures_of_any_size_and_five_channels(size: tuple[int, int]) -> None:
    model = tiny(channels=5)
    label_image = np.ones(size, np.int32)  # one object that fills the picture
    batch = batch_of(label_image, channels=5)
    assert torch.isfinite(model.loss(batch)["total"])
    for answer in model.answers(batch.images):
        assert answer.size == size
        sides = answer.boxes[:, [3, 2]] - answer.boxes[:, [1, 0]]
        assert [list(mask.shape) for mask in answer.masks] == sides.tolist()
        assert (answer.boxes[:, :2] >= 0).all() and (answer.boxes[:, 2:] <= size[::-1]).all()
        assert (np.diff(answer.scores) <= 0).all() and set(answer.classes) <= {1, 2}
    found = model.predict(batch.images)[0]
    assert found.label_image.shape == size and found.label_image.max(initial=0) == len(found)


def test_a_picture_in_which_nothing_is_detected() -> None:
    model = tiny(least_score=0.99)
    answer = model.answers(torch.rand(1, 3, 40, 40))[0]
    assert len(answer) == 0 and answer.masks == ()
    assert len(model.objects(answer)) == 0
    assert not model(torch.rand(1, 3, 40, 40))[1].any()


def test_every_suppression_detects_and_soft_keeps_at_least_as_many() -> None:
    images = torch.rand(1, 3, 48, 48)
    counts = {}
    for name in ("class", "all", "soft"):
        answer = tiny(suppression=name, detections=200, least_score=0.2).answers(images)[0]
        counts[name] = len(answer)
        assert (answer.scores >= 0.2).all()
    assert 0 < counts["all"] <= counts["class"]
    assert counts["soft"] > 0


def test_mixed_precision() -> None:
    model, batch = tiny(), batch_of(disks())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model.loss(batch)["total"])
        assert all(answer.scores.dtype == np.float32 for answer in model.answers(batch.images))


def test_a_resized_picture_is_judged_at_its_own_pixels() -> None:
    """Boxes, masks and losses know two frames: the picture's, and the network's at twice the size."""
    model = tiny(shorter_side=96)
    batch = batch_of(disks())
    torch.manual_seed(4)
    ours = model.loss(batch)
    larger = replace(
        batch,
        images=torch.nn.functional.interpolate(batch.images, scale_factor=2.0, mode="bilinear"),
        objects=batch.objects.repeat_interleave(2, 1).repeat_interleave(2, 2),  # type: ignore[union-attr]
    )
    torch.manual_seed(4)
    theirs = tiny().loss(larger)
    for name in ("objectness", "proposal_box", "class", "box"):
        assert float(ours[name].detach()) == pytest.approx(float(theirs[name].detach()), rel=0.02)
    assert float(ours["mask"].detach()) == pytest.approx(float(theirs["mask"].detach()), rel=0.1)
    answer = model.answers(batch.images)[0]
    assert answer.size == (48, 48) and (answer.boxes <= 48).all()
    assert tiny(shorter_side=96, longer_side=100)._seen(torch.rand(1, 3, 20, 40)).size == (50, 100)


# ------------------------------------------------------------------------------------------ detections to objects


def detections(*found: tuple[int, int, int, int, float], size: tuple[int, int] = (20, 30)) -> Detections:
    """Solid boxes left, top, right, bottom, score, of class 1."""
    boxes = np.array([each[:4] for each in found], np.int64).reshape(-1, 4)
    masks = tuple(np.ones((bottom - top, right - left), bool) for left, top, right, bottom in boxes)
    scores = np.array([each[4] for each in found], np.float32)
    return Detections(size, boxes, np.ones(len(boxes), np.int16), scores, masks)


def test_the_best_has_the_pixel_and_what_is_hidden_is_left_out() -> None:
    model = tiny()
    found = model.objects(detections((0, 0, 10, 10, 0.7), (5, 0, 15, 10, 0.9), (6, 1, 12, 9, 0.8), (20, 0, 22, 2, 0.3)))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])  # type: ignore[union-attr]
    assert np.count_nonzero(found.label_image == 1) == 100 and np.count_nonzero(found.label_image == 2) == 50
    assert found.runs is not None
    left, top, mask = mask_in_box(found.runs[1], (20, 30))
    assert (left, top, mask.shape, bool(mask.all())) == (0, 0, (10, 10), True)  # whole, also where another lies on it
    apart = model.objects(detections((0, 0, 5, 5, 0.7), (5, 0, 9, 5, 0.9)))
    assert apart.runs is None and len(apart) == 2
    low = model.objects(detections((20, 0, 22, 2, 0.3)), {"score": 0.2})
    assert len(low) == 1
    assert len(model.objects(detections((0, 0, 10, 10, 0.9), (4, 0, 14, 10, 0.8)), {"overlap": 0.3})) == 1
    assert set(model.thresholds) == set(model.candidates) == {"score", "overlap"}


def test_400_objects_on_a_large_picture_are_held_in_their_boxes() -> None:
    side = 4000
    places = [(x, y, x + 180, y + 180, 0.9) for x in range(0, side, 200) for y in range(0, side, 200)]
    answer = detections(*places, size=(side, side))
    found = tiny().objects(answer)
    assert len(found) == len(answer) == 400
    held = sum(mask.nbytes for mask in answer.masks)
    assert held == 400 * 180 * 180  # a byte a pixel of the boxes; 400 whole masks would be 6.4 GB
    large = np.array([0, 0, side, side])
    mask = laid_on_pixels(np.ones((28, 28), np.float32), large.astype(np.float32), large, 0.5, 0.5)
    assert mask.all() and mask.nbytes == side * side


# ------------------------------------------------------------------------------------------ as torchvision


def original(name: str, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """torchvision's Mask R-CNN, random, for small pictures, with scores well apart; and what we must be told."""
    from torchvision.models import detection

    torch.manual_seed(seed)
    sizes = {"min_size": 64, "max_size": 80, "box_score_thresh": 0.1, "box_detections_per_img": 12}
    proposals = {"rpn_pre_nms_top_n_test": 60, "rpn_post_nms_top_n_test": 40}
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=6, **sizes, **proposals)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, std=0.2)  # type: ignore[arg-type]
            module.momentum = 1.0
    with torch.no_grad():
        model.backbone.train()(torch.randn(2, 3, 96, 96))
        model.roi_heads.box_predictor.cls_score.bias[0] = -20  # random features would all be background
    told = {"shorter_side": 64, "longer_side": 80, "least_score": 0.1, "detections": 12}
    return model.eval(), {**told, "proposals": 40, "proposals_a_level": 60}


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_the_same_detections_as_torchvision(name: Any) -> None:
    theirs, told = original(name)
    ours = MaskRCNN(mask_rcnn_config(name, classes=6).model_copy(update=told)).eval()
    assert load_torchvision(ours, theirs.state_dict()) == ()
    raw: list[Tensor] = []
    finish = theirs.transform.postprocess

    def looked_at(result: Any, *sizes: Any) -> Any:
        raw.extend(each["masks"][:, 0] for each in result)  # before they are laid on pixels
        return finish(result, *sizes)

    theirs.transform.postprocess = looked_at
    images = torch.rand(1, 3, 50, 71)
    with torch.inference_mode():
        expected = theirs(list(images))[0]
        boxes, scores, classes, masks = (each[0] for each in ours(images))
    count = len(expected["boxes"])
    assert count >= 5 and int((scores > 0).sum()) == count
    torch.testing.assert_close(scores[:count], expected["scores"], rtol=0, atol=1e-4)
    torch.testing.assert_close(boxes[:count], expected["boxes"], rtol=0, atol=0.02)
    assert torch.equal(classes[:count], expected["labels"])
    assert raw[0].std() > 0.05  # not halves against halves
    torch.testing.assert_close(masks[:count], raw[0], rtol=0, atol=0.02)
    answer = ours.answers(images)[0]
    np.testing.assert_allclose(answer.scores, scores[:count].numpy(), atol=1e-5)


def test_torchvisions_first_weights_as_they_lie_on_the_hub() -> None:
    """They were written by an older version under other names, without counters and for norms without epsilon."""
    theirs, _ = original("maskrcnn_resnet50_fpn")
    old = {}
    for name, value in theirs.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        for block in range(4):
            name = name.replace(f"inner_blocks.{block}.0.", f"inner_blocks.{block}.")
            name = name.replace(f"layer_blocks.{block}.0.", f"layer_blocks.{block}.")
            name = name.replace(f"mask_head.{block}.0.", f"mask_head.mask_fcn{block + 1}.")
        old[name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    model = MaskRCNN(mask_rcnn_config("maskrcnn_resnet50_fpn", classes=6)).eval()
    assert load_torchvision(model, without_epsilon(old)) == ()
    state = model.state_dict()
    assert torch.equal(state["mask_head.3.0.weight"], old["roi_heads.mask_head.mask_fcn4.weight"])
    assert torch.equal(state["pyramid.layer_blocks.2.0.bias"], old["backbone.fpn.layer_blocks.2.bias"])
    norm, x = model.encoder.net.bn1, torch.randn(1, 64, 4, 4)  # type: ignore[union-attr]
    mean, variance, weight, bias = (old[f"backbone.body.bn1.{each}"].view(1, -1, 1, 1) for each in
                                    ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
    torch.testing.assert_close(norm(x), (x - mean) / variance.sqrt() * weight + bias, rtol=1e-4, atol=1e-4)
    other = MaskRCNN(mask_rcnn_config("maskrcnn_resnet50_fpn", classes=3))
    left = load_torchvision(other, old)
    assert {name.rsplit(".", 1)[0] for name in left} == {
        "box_predictor.cls_score",
        "box_predictor.bbox_pred",
        "mask_predictor.mask_fcn_logits",
    }
    with pytest.raises(UsageError, match="these weights are not those"):
        load_torchvision(other, {"roi_heads.something": torch.zeros(1)})


def test_weights_that_can_not_be_fetched_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def closed(*_: Any, **__: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", closed)
    torch_home = torch.hub.get_dir()
    try:
        torch.hub.set_dir(str(tmp_path))
        with pytest.raises(UsageError, match=r"maskrcnn_resnet50_fpn can't be fetched \(no network here\)"):
            fetch_torchvision("maskrcnn_resnet50_fpn")
    finally:
        torch.hub.set_dir(torch_home)


# ------------------------------------------------------------------------------------------ export and learning


def test_what_is_exported_detects_the_same() -> None:
    model = tiny()
    images = torch.rand(1, 3, 40, 48)
    exported = torch.export.export(model, (images,)).module()
    other = torch.rand(1, 3, 40, 48)
    for mine, its in zip(model(other), exported(other), strict=True):
        torch.testing.assert_close(its, mine, rtol=1e-4, atol=1e-4)
    answer = model.answers(other)[0]
    boxes, scores, classes, masks = (each[0].detach() for each in model(other))
    count = int((scores > 0).sum())
    assert count == len(answer) > 0
    np.testing.assert_allclose(answer.scores, scores[:count].numpy(), rtol=1e-4)
    assert classes[:count].tolist() == answer.classes.tolist()
    assert pixel_boxes(boxes[:count].numpy(), (40, 48), 0.5).tolist() == answer.boxes.tolist()
    assert masks.shape == (len(scores), 14, 14)


def test_soft_suppression_can_be_exported() -> None:
    class Soft(nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
            return softly_suppressed(boxes, scores, groups, 3, 0.1)

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10], [50, 50, 60, 60]])
    given = boxes, torch.tensor([0.9, 0.8, 0.85, 0.3]), torch.tensor([1, 1, 2, 1])
    exported = torch.export.export(Soft(), given).module()
    torch.testing.assert_close(exported(*given), Soft()(*given))


def test_it_learns_the_pictures_that_it_is_shown() -> None:
    torch.manual_seed(0)
    samples = [draw_scene(SceneConfig(64, 64), index) for index in range(1)]
    batch = collate(samples)
    sizes = np.concatenate(
        [(boxes := boxes_of(each, len(kinds)))[:, 2:].numpy() - boxes[:, :2].numpy()
         for each, kinds in zip(batch.objects, batch.object_classes, strict=True)]  # type: ignore[arg-type]
    )  # fmt: skip
    anchors = fit_anchors(sizes[:, ::-1])
    changes = {"box_width": 128, "pyramid": 32, "mask_width": 32, "box_samples": 64, "anchor_samples": 128}
    model = MaskRCNN(
        MaskRCNNConfig(classes=5, anchor_sizes=anchors.sizes, anchor_ratios=anchors.ratios, **{**TINY, **changes})
    )
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    totals = []
    for _ in range(80):
        terms = model.loss(batch)
        optimizer.zero_grad()
        terms["total"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        totals.append(float(terms["total"].detach()))
    assert totals[-1] < 0.5 * totals[0]
    found = model.train().predict(batch.images)  # batch statistics: 80 steps are too few for running ones
    hits = sum(
        len(matched(overlaps(sample.instances.label_image, each.label_image), 0.5))  # type: ignore[union-attr]
        for sample, each in zip(samples, found, strict=True)
    )
    assert hits >= 0.5 * len(sizes)
