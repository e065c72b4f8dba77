"""PSNR, SSIM and MS-SSIM of pictures whose likeness is known."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from intarsia.errors import UsageError
from intarsia.metrics.picture_quality import MULTISCALE_SMALLEST, SMALLEST, WINDOW, PictureQuality


def quality(answers: torch.Tensor, truths: torch.Tensor) -> PictureQuality:
    sums = PictureQuality()
    sums.add(answers, truths)
    return sums


def test_a_constant_difference_of_a_tenth_is_20_decibels() -> None:
    truths = torch.rand(3, 1, 16, 16) * 0.8
    assert quality(truths + 0.1, truths)["psnr"] == pytest.approx(20, abs=1e-3)


def test_the_mean_is_over_pictures_not_over_pixels() -> None:
    truths = torch.zeros(2, 1, 16, 16)
    answers = truths.clone()
    answers[0] += 0.1  # 20 dB
    answers[1] += 0.01  # 40 dB
    assert quality(answers, truths)["psnr"] == pytest.approx(30, abs=1e-3)
    apart = PictureQuality()
    for i in range(2):
        apart.add(answers[i : i + 1], truths[i : i + 1])
    assert apart["psnr"] == pytest.approx(30, abs=1e-3)
    assert apart["ssim"] == pytest.approx(quality(answers, truths)["ssim"], abs=1e-6)


def test_the_same_pictures_have_no_noise_and_are_left_out_of_the_mean() -> None:
    truths = torch.rand(2, 3, 20, 20)
    same = quality(truths, truths)
    assert same["psnr"] == math.inf and same["ssim"] == pytest.approx(1, abs=1e-6)
    answers = truths.clone()
    answers[1] = (truths[1] + 0.1) % 1.0
    alone = quality(answers[1:], truths[1:])["psnr"]
    assert quality(answers, truths)["psnr"] == pytest.approx(alone)
    assert "without 1" in quality(answers, truths).scores().overall[0].definition


def test_structural_similarity_is_that_of_scikit_image() -> None:
    truths = torch.rand(1, 1, 32, 40, generator=torch.Generator().manual_seed(1))
    answers = (truths + 0.2 * torch.randn(truths.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    # theirs leaves out the windows that reach over the border, ours mirrors the picture there
    first, second = (
        np.pad(np.asarray(each[0, 0], np.float64), WINDOW // 2, mode="reflect") for each in (truths, answers)
    )
    theirs = structural_similarity(
        first, second,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0,
    )  # fmt: skip
    assert quality(answers, truths)["ssim"] == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("side", [SMALLEST - 1, SMALLEST, 16, MULTISCALE_SMALLEST - 1, MULTISCALE_SMALLEST])
def test_pictures_too_small_for_a_number_have_none(side: int) -> None:
    truths = torch.rand(1, 1, side, max(side, 30))
    sums = quality(truths * 0.9, truths)
    assert math.isfinite(sums["psnr"])
    assert math.isnan(sums["ssim"]) == (side < SMALLEST)
    assert math.isnan(sums["ms_ssim"]) == (side < MULTISCALE_SMALLEST)


def test_no_picture_no_number_and_unlike_shapes_are_refused() -> None:
    assert math.isnan(quality(torch.zeros(0, 1, 16, 16), torch.zeros(0, 1, 16, 16))["psnr"])
    with pytest.raises(UsageError, match="same shape"):
        quality(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 17))


def test_scores_say_of_how_many_pictures() -> None:
    scores = quality(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)).scores("mended_", "holes of a quarter")
    assert [score.name for score in scores.overall] == ["mended_psnr", "mended_ssim", "mended_ms_ssim"]
    assert all("2 pictures" in score.definition and "holes" in score.definition for score in scores.overall)
