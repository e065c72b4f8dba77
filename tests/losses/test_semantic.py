"""The segmenter's loss: values worked out by hand, and properties that hold for every term."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.errors import DataError, UsageError
from intarsia.losses import LossConfig, SegmentationLoss
from intarsia.records import IGNORE

TERMS = ("cross_entropy", "focal", "dice", "jaccard", "tversky", "lovasz", "mse")
PIXEL_TERMS = ("cross_entropy", "focal", "mse")
EVERYTHING = LossConfig(terms=dict.fromkeys(TERMS, 1.0))

# 2 x 2 pixels, 2 classes; class 1's probability and the truth:
#   0.2 0.6      0 1
#   0.9 0.3      1 0
CHANCE = torch.tensor([[0.2, 0.6], [0.9, 0.3]])
TRUTH = torch.tensor([[0, 1], [1, 0]])


def exclusive_logits(chance: torch.Tensor) -> torch.Tensor:
    return torch.stack([(1 - chance).log(), chance.log()])[None]  # (1, 2, H, W)


def random_case(
    seed: int, overlapping: bool, ignored: float = 0.3, classes: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, 6, generator=generator) * 3
    if overlapping:
        target = torch.randint(0, 2, logits.shape, generator=generator).float()
    else:
        target = torch.randint(0, classes, (2, 5, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


def value(
    term: str, logits: torch.Tensor, target: torch.Tensor, overlapping: bool = False, **settings: object
) -> float:
    criterion = SegmentationLoss(LossConfig(terms={term: 1.0}, **settings), logits.shape[1], overlapping)
    return criterion(logits, target)["total"].item()


BY_HAND = {
    "cross_entropy": -sum(map(math.log, (0.8, 0.6, 0.9, 0.7))) / 4,
    "focal": -sum((1 - p) ** 2 * math.log(p) for p in (0.8, 0.6, 0.9, 0.7)) / 4,
    "mse": (0.2**2 + 0.4**2 + 0.1**2 + 0.3**2) / 4,
    # class 1: TP 1.5, predicted 2.0, actual 2; class 0: TP 1.5, predicted 2.0, actual 2
    "dice": 1 - 2 * 1.5 / 4,
    "jaccard": 1 - 1.5 / 2.5,
    "tversky": 1 - 1.5 / (1.5 + 0.3 * 0.5 + 0.7 * 0.5),
    # errors of both classes, largest first: 0.4 (class 1), 0.3 (class 0), 0.2 (class 0), 0.1 (class 1).
    # Jaccard loss of class 1 after each turns wrong: 1/2, 2/3, 3/4, 1; of class 0: 1/3, 2/3, 1, 1
    "lovasz": (
        (0.4 / 2 + 0.3 * (2 / 3 - 1 / 2) + 0.2 * (3 / 4 - 2 / 3) + 0.1 * (1 - 3 / 4)) / 2
        + (0.4 / 3 + 0.3 * (2 / 3 - 1 / 3) + 0.2 * (1 - 2 / 3)) / 2
    ),
}


@pytest.mark.parametrize("term", TERMS)
def test_two_by_two_pixels_by_hand(term: str) -> None:
    assert value(term, exclusive_logits(CHANCE), TRUTH[None]) == pytest.approx(BY_HAND[term], abs=1e-6)


@pytest.mark.parametrize("term", TERMS)
def test_overlapping_two_by_two_pixels_by_hand(term: str) -> None:
    """Labels of "class 0" and "class 1" that happen to exclude each other, with probabilities that sum to 1."""
    logits = torch.stack([torch.logit(1 - CHANCE), torch.logit(CHANCE)])[None]
    labels = torch.stack([1 - TRUTH, TRUTH])[None].float()
    assert value(term, logits, labels, True) == pytest.approx(BY_HAND[term], abs=1e-6)


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("term", TERMS)
def test_a_perfect_prediction_costs_nothing_and_the_worst_its_known_value(term: str, overlapping: bool) -> None:
    masks = torch.tensor([[[0, 1], [2, 0]]])
    labels = F.one_hot(masks, 3).permute(0, 3, 1, 2).float()
    target = labels if overlapping else masks
    right = 20.0 * (2 * labels - 1)
    assert value(term, right, target, overlapping) == pytest.approx(0, abs=1e-5)
    wrong = -right if overlapping else right.roll(1, dims=1)
    distance = 20.0 if overlapping else 40.0  # between the logits of yes and no, or of the wrong and the right class
    worst = {"cross_entropy": distance, "focal": distance, "mse": 1.0 if overlapping else 2 / 3}
    assert value(term, wrong, target, overlapping) == pytest.approx(worst.get(term, 1.0), abs=1e-4)


@pytest.mark.parametrize("overlapping", [False, True])
def test_focal_without_focus_is_cross_entropy(overlapping: bool) -> None:
    logits, target = random_case(1, overlapping)
    plain = value("cross_entropy", logits, target, overlapping)
    assert value("focal", logits, target, overlapping, focal_gamma=0.0) == pytest.approx(plain, rel=1e-6)
    assert value("focal", logits, target, overlapping, focal_gamma=0.5) < plain


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("overlapping", [False, True])
def test_tversky_contains_dice_and_jaccard(overlapping: bool, pooled: bool) -> None:
    logits, target = random_case(2, overlapping)
    case = (logits, target, overlapping)
    half = value("tversky", *case, tversky_alpha=0.5, tversky_beta=0.5, batch_region=pooled)
    assert half == pytest.approx(value("dice", *case, batch_region=pooled), rel=1e-6)
    whole = value("tversky", *case, tversky_alpha=1.0, tversky_beta=1.0, batch_region=pooled)
    assert whole == pytest.approx(value("jaccard", *case, batch_region=pooled), rel=1e-6)


def test_tversky_alpha_is_the_cost_of_false_positives_and_beta_of_false_negatives() -> None:
    labels = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    too_much = torch.tensor([[[[30.0, 30.0, 30.0, -30.0]]]])  # one false positive
    too_little = torch.tensor([[[[30.0, -30.0, -30.0, -30.0]]]])  # one false negative
    only_alpha = {"tversky_alpha": 1.0, "tversky_beta": 0.0}
    only_beta = {"tversky_alpha": 0.0, "tversky_beta": 1.0}
    assert value("tversky", too_much, labels, True, **only_alpha) == pytest.approx(1 / 3)
    assert value("tversky", too_much, labels, True, **only_beta) == pytest.approx(0)
    assert value("tversky", too_little, labels, True, **only_alpha) == pytest.approx(0)
    assert value("tversky", too_little, labels, True, **only_beta) == pytest.approx(1 / 2)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("overlapping", [False, True])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_lovasz_is_the_jaccard_loss_on_hard_predictions(overlapping: bool, pooled: bool, seed: int) -> None:
    logits, target = random_case(seed, overlapping)
    hard = torch.where(logits > 0, 60.0, -60.0) if overlapping else 60.0 * F.one_hot(logits.argmax(1), 3).movedim(3, 1)
    expected = value("jaccard", hard, target, overlapping, batch_region=pooled)
    assert value("lovasz", hard, target, overlapping, batch_region=pooled) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_pulls_towards_the_truth(term: str) -> None:
    logits, target = random_case(3, overlapping=False, ignored=0.0)
    logits = logits.requires_grad_()
    criterion = SegmentationLoss(LossConfig(terms={term: 1.0}), 3)
    before = criterion(logits, target)["total"]
    before.backward()
    after = criterion(logits - 0.1 * logits.grad / logits.grad.norm(), target)["total"]
    assert after < before


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@given(seed=st.integers(0, 10**6), ignored=st.floats(0.1, 0.95), hardest=st.sampled_from([0.4, 1.0]))
@settings(max_examples=20, deadline=None)
def test_ignored_pixels_change_nothing_and_get_no_gradient(
    overlapping: bool, pooled: bool, seed: int, ignored: float, hardest: float
) -> None:
    logits, target = random_case(seed, overlapping, ignored)
    config = EVERYTHING.model_copy(update={"batch_region": pooled, "hardest": hardest, "label_smoothing": 0.1})
    criterion = SegmentationLoss(config, 3, overlapping)
    unknown = (target == IGNORE) if overlapping else (target == IGNORE).unsqueeze(1).expand_as(logits)
    logits.requires_grad_()
    terms = criterion(logits, target)
    terms["total"].backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[unknown] == 0).all()
    others = criterion(torch.where(unknown, torch.randn_like(logits) * 9, logits), target)
    assert {name: term.item() for name, term in others.items()} == {name: term.item() for name, term in terms.items()}


@pytest.mark.parametrize("changes", [{}, {"batch_region": False}, {"hardest": 0.3}, {"background": False}])
@pytest.mark.parametrize("overlapping", [False, True])
def test_a_batch_without_labels_costs_exactly_nothing(overlapping: bool, changes: dict) -> None:
    logits, target = random_case(4, overlapping, ignored=1.1)
    criterion = SegmentationLoss(EVERYTHING.model_copy(update={**changes, "weights": (1.0, 2.0, 3.0)}), 3, overlapping)
    terms = criterion(logits.requires_grad_(), target)
    assert set(terms) == {*TERMS, "total"}
    assert all(term.item() == 0 for term in terms.values())
    terms["total"].backward()
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("term", PIXEL_TERMS)
def test_a_class_of_weight_two_counts_as_if_its_pixels_were_there_twice(term: str) -> None:
    logits, target = random_case(5, overlapping=False)
    flat_logits, flat = logits.movedim(1, 3).reshape(-1, 3), target.flatten()
    again = flat == 1
    doubled = torch.cat([flat_logits, flat_logits[again]]).T[None, :, None]  # (1, 3, 1, N)
    expected = value(term, doubled, torch.cat([flat, flat[again]])[None, None])
    assert value(term, logits, target, weights=(1.0, 2.0, 1.0)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", PIXEL_TERMS)
def test_overlapping_weights_repeat_a_class(term: str) -> None:
    logits, labels = random_case(6, overlapping=True)
    expected = value(term, logits[:, [0, 1, 1, 2]], labels[:, [0, 1, 1, 2]], True)
    assert value(term, logits, labels, True, weights=(1.0, 2.0, 1.0)) == pytest.approx(expected, rel=1e-5)


def test_only_classes_of_weight_zero_cost_nothing() -> None:
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    criterion = SegmentationLoss(LossConfig(weights=(0.0, 1.0)), 2)
    total = criterion(logits, torch.zeros(1, 3, 3, dtype=torch.int64))["total"]
    total.backward()
    assert total.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("term", TERMS)
def test_overlapping_is_the_mean_of_the_classes_one_at_a_time(term: str) -> None:
    logits, labels = random_case(7, overlapping=True, ignored=0.0)
    alone = [value(term, logits[:, k : k + 1], labels[:, k : k + 1], True) for k in range(3)]
    assert value(term, logits, labels, True) == pytest.approx(sum(alone) / 3, rel=1e-5)


def test_one_sigmoid_is_a_softmax_over_two() -> None:
    logits, labels = random_case(8, overlapping=True, classes=1)
    pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
    for term in PIXEL_TERMS:
        assert value(term, logits, labels, True) == pytest.approx(value(term, pair, labels[:, 0].long()), rel=1e-5)


@pytest.mark.parametrize("term", ["dice", "jaccard", "tversky", "lovasz"])
def test_absent_classes_are_left_out_of_the_mean(term: str) -> None:
    logits, target = random_case(9, overlapping=False, ignored=0.0)
    target = target % 2  # class 2 never occurs
    extra = torch.cat([logits, torch.full_like(logits[:, :2], -60.0)], dim=1)  # two more that never occur
    assert value(term, extra, target) == pytest.approx(value(term, logits, target), rel=1e-5)
    only_zero = torch.zeros_like(target)
    assert value(term, 60.0 * F.one_hot(only_zero, 3).movedim(3, 1), only_zero) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("term", ["dice", "jaccard", "tversky", "lovasz"])
def test_background_can_be_left_out_of_the_mean(term: str) -> None:
    logits, labels = random_case(10, overlapping=True)
    assert value(term, logits, labels, True, background=False) == pytest.approx(
        value(term, logits[:, 1:], labels[:, 1:], True), rel=1e-6
    )


@pytest.mark.parametrize("term", ["dice", "jaccard", "tversky", "lovasz"])
def test_by_picture_is_the_mean_of_the_labelled_pictures(term: str) -> None:
    logits, target = random_case(11, overlapping=False)
    alone = [value(term, logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    nothing = torch.full_like(target[:1], IGNORE)
    with_unlabelled = (torch.cat([logits, logits[:1]]), torch.cat([target, nothing]))
    assert value(term, *with_unlabelled, batch_region=False) == pytest.approx(sum(alone) / 2, rel=1e-5)
    assert value(term, *with_unlabelled) == pytest.approx(value(term, logits, target), rel=1e-6)


def test_hardest_takes_the_worst_pixels_of_the_whole_batch() -> None:
    logits, target = random_case(12, overlapping=False)
    losses = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")[target != IGNORE]
    count = round(0.25 * len(losses))
    expected = losses.sort(descending=True).values[:count].mean().item()
    assert value("cross_entropy", logits, target, hardest=0.25) == pytest.approx(expected, rel=1e-6)
    assert value("cross_entropy", logits, target, hardest=1e-9) == pytest.approx(losses.max().item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_agrees_with_torch(smoothing: float) -> None:
    logits, target = random_case(13, overlapping=False)
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=smoothing).item()
    assert value("cross_entropy", logits, target, label_smoothing=smoothing) == pytest.approx(expected, rel=1e-6)
    logits, labels = random_case(13, overlapping=True, ignored=0.0)
    smooth = labels * (1 - smoothing) + smoothing / 2
    expected = F.binary_cross_entropy_with_logits(logits, smooth).item()
    assert value("cross_entropy", logits, labels, True, label_smoothing=smoothing) == pytest.approx(expected, rel=1e-5)


def test_total_is_the_weighted_sum_and_a_factor_of_zero_only_logs() -> None:
    logits, target = random_case(14, overlapping=False)
    terms = SegmentationLoss(LossConfig(terms={"cross_entropy": 0.5, "dice": 2.0, "mse": 0.0}), 3)(logits, target)
    assert terms["total"].item() == pytest.approx(0.5 * terms["cross_entropy"].item() + 2 * terms["dice"].item())
    assert terms["mse"] > 0


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(overlapping: bool, kind: torch.dtype) -> None:
    logits, target = random_case(15, overlapping)
    criterion = SegmentationLoss(EVERYTHING, 3, overlapping)
    rounded = logits.to(kind).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = criterion(rounded, target)
    expected = criterion(rounded.detach().float(), target)
    assert {name: term.item() for name, term in terms.items()} == {name: term.item() for name, term in expected.items()}
    terms["total"].backward()
    assert rounded.grad.dtype == kind
    assert torch.isfinite(rounded.grad).all()


@pytest.mark.parametrize("overlapping", [False, True])
def test_extreme_logits_stay_finite(overlapping: bool) -> None:
    logits, target = random_case(16, overlapping)
    logits = (logits * 1e4).requires_grad_()
    gentle = EVERYTHING.model_copy(update={"focal_gamma": 0.5})
    terms = SegmentationLoss(gentle, 3, overlapping)(logits, target)
    terms["total"].backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(logits.grad).all()


def test_a_large_region_keeps_its_small_addends() -> None:
    """4 million pixels of probability 0.999: one running float32 sum would be off by more than 1 %."""
    chance = torch.full((1, 1, 2000, 2000), 0.999)
    logits = torch.logit(chance)
    assert value("dice", logits, torch.ones_like(chance), True) == pytest.approx(1 - 2 * 0.999 / 1.999, abs=2e-5)
    pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
    ones = torch.ones(1, 2000, 2000, dtype=torch.int64)
    assert value("dice", pair, ones) == pytest.approx(1 - 2 * 0.999 / 1.999, abs=2e-5)


def test_one_exclusive_class_is_legal_and_harmless() -> None:
    logits = torch.randn(1, 1, 3, 3, requires_grad=True)
    terms = SegmentationLoss(EVERYTHING, 1)(logits, torch.zeros(1, 3, 3, dtype=torch.int64))
    terms["total"].backward()
    assert all(term.item() == pytest.approx(0, abs=1e-6) for term in terms.values())
    assert torch.isfinite(logits.grad).all()


def test_the_class_weights_are_not_in_the_checkpoint() -> None:
    assert SegmentationLoss(LossConfig(weights=(1.0, 2.0)), 2).state_dict() == {}


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UsageError, match="2 numbers for 3 classes"):
        SegmentationLoss(LossConfig(weights=(1.0, 2.0)), 3)
    with pytest.raises(UsageError, match="only one class"):
        SegmentationLoss(LossConfig(terms={"dice": 1.0}, background=False), 1)
    logits, masks = random_case(17, overlapping=False)
    with pytest.raises(DataError, match=r"no masks \(B, H, W\)"):
        SegmentationLoss(EVERYTHING, 3)(logits, None)
    with pytest.raises(DataError, match=r"no labels \(B, K, H, W\)"):
        SegmentationLoss(EVERYTHING, 3, True)(logits, None)
    with pytest.raises(DataError, match="made for 4 classes"):
        SegmentationLoss(EVERYTHING, 4)(logits, masks)
    with pytest.raises(DataError, match=r"\(2, 3, 5, 6\) need labels"):
        SegmentationLoss(EVERYTHING, 3, True)(logits, masks)
    with pytest.raises(DataError, match="255"):
        SegmentationLoss(EVERYTHING, 3)(logits, masks.masked_fill(masks == IGNORE, 255))
