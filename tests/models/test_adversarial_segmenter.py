"""What is special to the adversarial segmenter: a softened truth, a critic that is listened to only while it plays, and
its confidence as the teacher of pictures without masks."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import as_labels, made, squares, without_labels
from torch import Tensor

from intarsia.models.combined import Adversarial
from intarsia.records import IGNORE, Batch


def small(case: str = "adversarial", **options: Any) -> Adversarial:
    model = made(case, **options)
    assert isinstance(model, Adversarial)
    return model.train()


def half_labelled(overlapping: bool = False) -> Batch:
    """Two labelled pictures, and two others without masks."""
    known = as_labels(squares()) if overlapping else squares()
    other = without_labels(known)

    def both(one: Tensor | None, two: Tensor | None) -> Tensor | None:
        return None if one is None or two is None else torch.cat([one, two])

    images = torch.cat([known.images, other.images.flip(3)])
    return Batch(images, both(known.masks, other.masks), both(known.labels, other.labels),
                 labelled=torch.tensor([True, True, False, False]))  # fmt: skip


def play(model: Adversarial, batch: Batch, steps: int, part: str, rate: float = 1e-2) -> None:
    """Steps of one part, the other one held still, as the loop does."""
    player = model.parts()[part]
    optimizer = torch.optim.Adam(player.parameters(), lr=rate)
    model.requires_grad_(False)
    player.requires_grad_(True)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(batch, part)["total"].backward()
        optimizer.step()


@given(st.integers(0, 1000), st.floats(0.5, 1.0), st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_the_softened_truth_is_the_truth_in_the_style_of_the_answers(seed: int, softness: float, classes: int) -> None:
    model = small(softness=softness, classes=classes)
    drawn = torch.Generator().manual_seed(seed)
    answers = (6 * torch.randn(2, classes, 5, 7, generator=drawn)).softmax(dim=1)
    masks = torch.randint(-1, classes, (2, 5, 7), generator=drawn)
    soft, known = model.softened(Batch(torch.rand(2, 3, 5, 7), masks), answers)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(2, 5, 7))
    assert torch.equal(known[:, 0], masks != IGNORE)
    where = known[:, 0]
    assert (soft.gather(1, masks.clamp(min=0)[:, None])[:, 0][where] >= softness - 1e-6).all()
    unknown = ~known.expand_as(soft)
    assert torch.equal(soft[unknown], answers[unknown])  # no hole gives the truth away
    sure = answers.gather(1, masks.clamp(min=0)[:, None])[:, 0] > softness
    keep = (sure & where)[:, None].expand_as(soft)
    torch.testing.assert_close(soft[keep], answers[keep])  # where the answer is surer than that, it is the truth


def test_the_softened_truth_of_overlapping_classes() -> None:
    model = small(overlapping=True, softness=0.8)
    labels = torch.tensor([1.0, 1, 0, 0, -1, -1]).view(1, 1, 1, 6).expand(1, 2, 1, 6)
    answers = torch.tensor([0.95, 0.1, 0.05, 0.9, 0.3, 0.6]).view(1, 1, 1, 6).expand(1, 2, 1, 6)
    soft, known = model.softened(Batch(torch.rand(1, 3, 1, 6), labels=labels), answers)
    torch.testing.assert_close(soft[0, 0, 0], torch.tensor([0.95, 0.8, 0.05, 0.2, 0.3, 0.6]))
    assert known[0, 0, 0].tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 70)])
def test_a_score_belongs_to_its_own_square(size: tuple[int, int]) -> None:
    critic = small(critic_depth=3).critic
    scores = critic(torch.rand(2, 2, *size))
    assert scores.shape == (2, 1, -(-size[0] // 8), -(-size[1] // 8))
    certain = torch.zeros(1, 1, *size, dtype=torch.bool)
    certain[0, 0, size[0] - 1, size[1] // 2] = True
    touched = critic.touched(certain)
    assert touched.shape == (1, *scores.shape[1:]) and touched.sum() == 1
    assert touched[0, 0, (size[0] - 1) // 8, size[1] // 2 // 8]
    peak = torch.full((1, *scores.shape[1:]), -9.0)
    peak[touched] = 9.0
    confidence = critic.confidence(peak, size)
    assert confidence.shape == (1, 1, *size)
    y, x = divmod(int(confidence.argmax()), size[1])
    assert (y // 8, x // 8) == ((size[0] - 1) // 8, size[1] // 2 // 8)  # the map lies where the scores look


def test_a_critic_that_wins_for_long_is_faded_out() -> None:
    """One-hot truth against a segmenter that never learns: nothing is easier to tell apart."""
    model, batch = small(softness=1.0, memory=0.8), half_labelled()
    assert model.trusted.item() == 1
    heard = model.loss(batch)
    assert heard["total"] > heard["cross_entropy"]
    play(model, batch, 60, "critic")
    terms = model.loss(batch)
    assert terms["critic_real"] > 0.99 and terms["critic_drawn"] > 0.99
    assert terms["trusted"] < 0.1
    assert terms["adversarial"] > 1  # there would be much to learn, and all of it noise
    left = (terms["total"] - terms["cross_entropy"]) / (model.config.adversarial * terms["adversarial"])
    assert left < 0.15


def test_a_blind_critic_is_faded_out_and_heard_again_when_it_sees() -> None:
    model, batch = small(softness=1.0, memory=0.8), half_labelled()
    model.eval()
    model.loss(batch, "critic")
    assert model.critic_real.item() == model.critic_drawn.item() == pytest.approx(0.75)  # eval leaves it as it is
    model.train()
    with torch.no_grad():
        kept = {name: value.clone() for name, value in model.critic.score.named_parameters()}
        for parameter in model.critic.score.parameters():
            parameter.zero_()
    for _ in range(30):
        model.loss(batch, "critic")
    terms = model.loss(batch)
    assert terms["trusted"] == 0
    torch.testing.assert_close(terms["total"], terms["cross_entropy"])
    model.critic.score.load_state_dict(kept)
    trusts = []
    for _ in range(30):
        play(model, batch, 1, "critic")
        trusts.append(model.trusted.item())
    assert max(trusts) > 0.9


def test_what_was_recognised_survives_a_stop() -> None:
    model, other = small(softness=1.0), small(softness=1.0)
    play(model, half_labelled(), 5, "critic")
    model.advance(0.4)
    other.load_state_dict(model.state_dict())
    assert other.trusted == model.trusted and other.critic_real == model.critic_real and other.progress == 0.4


def test_the_critics_turn_leaves_the_segmenters_statistics_alone() -> None:
    model, batch = small(), half_labelled()
    before = {name: buffer.clone() for name, buffer in model.segmenter.named_buffers()}
    model.loss(batch, "critic")
    assert all(torch.equal(before[name], buffer) for name, buffer in model.segmenter.named_buffers())
    model.loss(batch, "segmenter")
    assert not all(torch.equal(before[name], buffer) for name, buffer in model.segmenter.named_buffers())


def test_each_part_descends_its_own_side_of_the_game() -> None:
    model, batch = small(adversarial=1.0, unlabelled=1.0), half_labelled()
    play(model, batch, 5, "critic")
    before = model.loss(batch, "critic")["total"].item()
    play(model, batch, 10, "critic")
    assert model.loss(batch, "critic")["total"].item() < before
    model.critic_real.fill_(0.75)
    model.critic_drawn.fill_(0.75)
    doubted = model.loss(batch)
    play(model, batch, 20, "segmenter")
    fooled = model.loss(batch)
    for name in ("adversarial", "unlabelled"):
        assert fooled[name] < doubted[name]


@pytest.mark.parametrize("overlapping", [False, True])
def test_what_the_critic_believes_is_taught_and_nothing_else(overlapping: bool) -> None:
    batch = half_labelled(overlapping)
    believing = small(overlapping=overlapping, threshold=0.0, warmup=0.5)
    early = believing.loss(batch)
    assert early["self_taught"] == early["believed"] == 0  # before the warm-up is over
    believing.advance(0.5)
    terms = believing.eval().loss(batch)
    assert terms["believed"] == 1
    logits = believing(batch.images[2:])
    sure = logits.abs().sigmoid() if overlapping else logits.softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(terms["self_taught"], -sure.log().mean(), rtol=1e-4, atol=1e-5)
    doubting = small(overlapping=overlapping, threshold=1.0, warmup=0.0)
    terms = doubting.loss(batch)
    assert terms["self_taught"] == terms["believed"] == 0
    alone = believing.loss(as_labels(squares()) if overlapping else squares())  # nobody is without a mask
    assert alone["unlabelled"] == alone["self_taught"] == 0


def test_the_critic_sees_the_picture_only_if_told_to() -> None:
    maps, images = torch.rand(1, 2, 32, 32), torch.rand(2, 1, 3, 32, 32)
    labels, both = small(), small("adversarial-pictures")
    assert torch.equal(labels.scores(images[0], maps), labels.scores(images[1], maps))
    assert not torch.equal(both.scores(images[0], maps), both.scores(images[1], maps))


def test_without_any_mask_the_critic_learns_nothing_and_says_so() -> None:
    model = small()
    terms = model.loss(without_labels(squares()), "critic")
    terms["total"].backward()
    assert terms["total"] == 0 and terms["real"] == 0.75
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in model.critic.parameters())


def test_answers_for_unlabelled_pictures_are_drawn_ones_only_if_asked() -> None:
    batch = half_labelled()
    for learns, differs in (("labelled", False), ("all", True)):
        model = small(critic_learns=learns).eval()
        alone = model.loss(batch.select(torch.tensor([True, True, False, False])), "critic")["total"]
        together = model.loss(batch, "critic")["total"]
        assert ((together - alone).abs() > 1e-5) == differs
