"""Strong views: nothing moves, everything stays in range, chance is torch's and each picture's own."""

from __future__ import annotations

import pytest
import torch

from intarsia.networks.views import blurred, boxes, class_regions, strong


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_strong_view_is_another_picture_of_the_same_thing(channels: int) -> None:
    torch.manual_seed(0)
    images = torch.zeros(16, channels, 24, 32)
    images[:, :, 8:16, 8:24] = 0.6
    views = strong(images)
    assert views.shape == images.shape and views.min() >= 0 and views.max() <= 1
    assert not torch.equal(views, images)
    inside, outside = views[:, :, 10:14, 12:20].mean(dim=(1, 2, 3)), views[:, :, :4].mean(dim=(1, 2, 3))
    assert (inside > outside + 0.1).all()  # what was bright where it was, is still


def test_each_picture_changes_by_itself_and_the_seed_says_how() -> None:
    images = torch.full((2, 3, 16, 16), 0.5)
    torch.manual_seed(3)
    first = strong(images)
    torch.manual_seed(3)
    assert torch.equal(strong(images), first)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(strong(images, strength=0), images)


def test_a_blur_keeps_a_plane_and_spreads_a_point_by_its_own_deviation() -> None:
    images = torch.zeros(2, 1, 33, 33)
    images[:, :, 16, 16] = 1
    result = blurred(images, torch.tensor([0.8, 1.2]).view(2, 1, 1, 1))
    torch.testing.assert_close(result.sum(dim=(1, 2, 3)), torch.ones(2))
    place = torch.arange(33.0) - 16
    variances = (result.sum(dim=2)[:, 0] * place.square()).sum(dim=1)
    assert variances[0].item() == pytest.approx(0.64, rel=0.05)
    assert variances[1].item() == pytest.approx(1.44, rel=0.05)
    plane = torch.full((1, 2, 9, 9), 0.3)
    torch.testing.assert_close(blurred(plane, torch.ones(1, 1, 1, 1)), plane)


def test_boxes_are_rectangles_of_the_said_size() -> None:
    torch.manual_seed(1)
    planes = boxes(200, 40, 60, 1.0, torch.device("cpu"))[:, 0]
    shares = planes.float().mean(dim=(1, 2))
    assert shares.min() > 0.005 and shares.max() < 0.45
    for plane in planes[:40]:
        rows, columns = plane.any(dim=1), plane.any(dim=0)
        assert torch.equal(plane, rows[:, None] & columns[None])  # a rectangle, filled
        for line in (rows, columns):
            places = line.nonzero().flatten()
            assert len(places) == places.max() - places.min() + 1
    assert not boxes(8, 10, 10, 0.0, torch.device("cpu")).any()


def test_class_regions_are_whole_classes_half_of_them() -> None:
    torch.manual_seed(0)
    answer = torch.arange(6).repeat_interleave(4).view(1, 1, 24).expand(20, 8, 24)
    probabilities = torch.nn.functional.one_hot(answer, 6).movedim(-1, 1).float()
    regions = class_regions(probabilities, 1.0)[:, 0]
    for region in regions:
        taken = [bool(region[answer[0] == k].all()) for k in range(6)]
        left = [bool((~region[answer[0] == k]).all()) for k in range(6)]
        assert sum(taken) == 3 and sum(left) == 3
    assert len({tuple(region[0].tolist()) for region in regions}) > 3  # chosen anew for each picture
