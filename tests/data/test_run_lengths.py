"""Run lengths: by eye, there and back, against COCO's own, and many objects in seconds."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intarsia.data import run_lengths as module
from intarsia.data.coco import decode_counts
from intarsia.data.run_lengths import (
    area_of,
    box_of,
    encode_counts,
    label_image_of,
    mask_in_box,
    run_lengths,
    run_lengths_in_box,
)
from intarsia.errors import DataError
from intarsia.records import IGNORE

label_images = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: arrays(np.int32, size, elements=st.integers(-1, 4))
)


def test_two_objects_to_be_checked_by_eye() -> None:
    image = np.array([[0, 1, 1], [2, 1, 0], [2, 2, 0]])
    one, two = run_lengths(image)
    assert one.tolist() == [3, 2, 1, 1, 2]  # columns: (0 2 2) (1 1 2) (1 0 0)
    assert two.tolist() == [1, 2, 2, 1, 3]
    assert box_of(one, 3) == (1, 0, 3, 2) and area_of(one) == 3
    assert box_of(two, 3) == (0, 1, 2, 3) and area_of(two) == 3


def test_a_run_that_ends_the_picture_and_one_that_goes_on_in_the_next_column() -> None:
    assert run_lengths(np.ones((3, 2), int))[0].tolist() == [0, 6]
    image = np.array([[0, 1], [1, 0]])
    assert run_lengths(image)[0].tolist() == [1, 2, 1]
    assert box_of(np.array([1, 2, 1]), 2) == (0, 0, 2, 2)


def test_numbers_that_do_not_occur_have_no_pixels() -> None:
    runs = run_lengths(np.array([[0, 3]]), count=4)
    assert [area_of(each) for each in runs] == [0, 0, 1, 0] and runs[0].tolist() == [2]
    assert box_of(runs[0], 1) == (0, 0, 0, 0) and mask_in_box(runs[0], (1, 2))[2].size == 0
    assert run_lengths(np.zeros((0, 5), int)) == () and encode_counts(np.zeros(0, int)) == ""
    assert [area_of(each) for each in run_lengths(np.array([[1, 2, 3]]), count=1)] == [1]


@settings(deadline=None)
@given(label_images, st.integers(1, 12))
def test_there_and_back(image: np.ndarray, strip: int) -> None:
    whole = run_lengths(image)
    module.STRIP, before = strip, module.STRIP
    try:
        strips = run_lengths(image)
    finally:
        module.STRIP = before
    assert [each.tolist() for each in whole] == [each.tolist() for each in strips]
    np.testing.assert_array_equal(label_image_of(whole, image.shape), np.maximum(image, 0))
    for number, each in enumerate(whole, start=1):
        assert each.sum() == image.size and area_of(each) == (image == number).sum()
        left, top, mask = mask_in_box(each, image.shape)
        again = np.zeros(image.shape, bool)
        again[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        np.testing.assert_array_equal(again, image == number)
        if mask.size:
            assert mask.any(axis=0)[[0, -1]].all() and mask.any(axis=1)[[0, -1]].all()  # the box is tight
            assert run_lengths_in_box(mask, left, top, image.shape).tolist() == each.tolist()
        assert run_lengths_in_box(image == number, 0, 0, image.shape).tolist() == each.tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**33), max_size=30))
def test_the_text_says_the_numbers(numbers: list[int]) -> None:
    assert decode_counts(encode_counts(np.array(numbers, np.int64))) == numbers


def test_borders_of_a_group_of_bits() -> None:
    for number in (15, 16, 31, 32, 511, 512, 2**14 - 1, 2**14, 2**34 - 1):
        numbers = [number, 0, 0, number, number, 0]
        assert decode_counts(encode_counts(np.array(numbers))) == numbers


@settings(deadline=None)
@given(label_images)
def test_cocos_own_tools_write_and_read_the_same(image: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for number, each in enumerate(run_lengths(image), start=1):
        theirs = coco.encode(np.asfortranarray((image == number).astype(np.uint8)))
        text = encode_counts(each)
        assert text == theirs["counts"].decode()
        if area_of(each):
            left, top, right, bottom = box_of(each, image.shape[0])
            assert coco.toBbox(theirs).tolist() == [left, top, right - left, bottom - top]


def test_many_objects_on_a_large_picture_take_seconds() -> None:
    tile = np.zeros((50, 50), np.int32)
    rows, columns = np.mgrid[:50, :50]
    tile[(rows - 25) ** 2 + (columns - 25) ** 2 < 500] = 1
    image = np.kron(np.arange(1, 4901, dtype=np.int32).reshape(70, 70), tile)  # 4900 discs on 3500 x 3500
    began = time.process_time()
    runs = run_lengths(image)
    texts = [encode_counts(each) for each in runs]
    assert time.process_time() - began < 5
    assert len(texts) == 4900 and {area_of(each) for each in runs} == {int(tile.sum())}


def test_what_is_no_label_image_and_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="two axes"):
        run_lengths(np.zeros((2, 2, 2), int))
    with pytest.raises(DataError, match="whole numbers"):
        run_lengths(np.zeros((2, 2)))
    with pytest.raises(DataError, match="not within a picture"):
        run_lengths_in_box(np.ones((2, 2), bool), 3, 0, (4, 4))
    with pytest.raises(DataError, match="sum to 5"):
        label_image_of([np.array([2, 3])], (2, 2))
    assert run_lengths(np.full((2, 2), IGNORE)) == ()
