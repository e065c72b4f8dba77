"""The report of runs of models of objects that are whole, empty, hostile or unusual."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intarsia.errors import DiskError
from intarsia.records import IGNORE, Classes, Instances, ObjectPrediction, Sample
from intarsia.report import ObjectReportData, object_page, write_object_report
from intarsia.report.object_figures import count_chart, threshold_chart
from intarsia.report.object_wording import object_verdict
from intarsia.training.object_evaluation import ObjectEvaluation, evaluate_objects

from .test_page import HOSTILE, Reader

ONE = Classes.named(("background", HOSTILE))
TWO = Classes.named(("background", HOSTILE, "absent & gone"))


def tiles(
    columns: int, wrong: int = 0, classes: int = 1, scores: bool = True, split: bool = False, side: int = 48
) -> Instances:
    """Squares of 8 in a grid of 12: the first `wrong` of them are not there, and the next is in two, where it is so."""
    image = np.zeros((side, side), np.int32)
    number = 0
    for place in range(wrong, columns**2):
        top, left = 12 * (place // columns), 12 * (place % columns)
        for from_, to in ((0, 4), (4, 8)) if split and place == wrong else ((0, 8),):
            number += 1
            image[top : top + 8, left + from_ : left + to] = number
    kinds = np.arange(number) % classes + 1
    return Instances(image, kinds.astype(np.int16), np.linspace(0.9, 0.3, number, dtype=np.float32) if scores else None)


def evaluated(classes: Classes = ONE, scores: bool = True, **changes: Any) -> ObjectEvaluation:
    kinds = len(classes) - 1
    samples = []
    for number in range(4):
        truth = tiles(4, classes=kinds, scores=False)
        truth.label_image[:3, 20:] = IGNORE
        image = np.random.default_rng(number).integers(0, 255, (48, 48, 3), np.uint8)
        samples.append(Sample(f"{HOSTILE}{number}", image, instances=truth))

    def predict(sample: Sample) -> ObjectPrediction:
        wrong = int(sample.name[-1])
        return ObjectPrediction(
            sample.name, sample.image, classes, tiles(4, wrong=wrong, classes=kinds, scores=scores, split=wrong == 1)
        )

    return evaluate_objects(predict, samples, classes, **changes)


def rows() -> list[dict[str, float]]:
    """Twenty steps, each fifth validated."""
    told: list[dict[str, float]] = []
    for step in range(1, 21):
        row = {"step": step, "time": 2.0 * step, "train/total": 2 / step, f"train/{HOSTILE}": 1 / step, "train/b": 0.5}
        if step % 5 == 0:
            row |= {"validation/AP50": step / 40, "validation/mean_AP": step / 80, "validation/precision": 0.5}
        told.append(row)
    return told


def data(classes: Classes = ONE, **changes: Any) -> ObjectReportData:
    whole = {
        "name": HOSTILE,
        "classes": classes,
        "config_text": f'[model]  # {HOSTILE}\nname = "instance_segnet"',
        "rows": rows(),
        "evaluation": evaluated(classes),
        "counts": {"training": 12, HOSTILE: 3},
        "thresholds": {"centre": 0.4, "smallest": 12.0},
        "seconds": 4000.0,
        "device": HOSTILE,
    }
    return ObjectReportData(**{**whole, **changes})


@pytest.mark.parametrize("classes", [ONE, TWO], ids=["one", "two"])
def test_the_page_is_well_formed_and_stands_alone(classes: Classes) -> None:
    html = object_page(data(classes))
    read = Reader(html)
    assert "script" not in read.seen and "link" not in read.seen
    addresses = [value for _, name, value in read.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert addresses and all(each.startswith(("data:image/webp;base64,", "#")) for each in addresses)
    assert not re.search(r"https?://|@import|url\(", html)
    assert all(name in read.text for name in classes.names[1:])
    assert "&lt;script&gt;" in html


def test_all_sections_of_a_whole_run() -> None:
    found = ["found", "errors", "pictures", "classes", "sizes", "scores", "calibration", "training", "run"]
    assert Reader(object_page(data())).sections() == found
    found.insert(4, "confusion")
    read = Reader(object_page(data(TWO)))
    assert read.sections() == found
    assert [value for tag, name, value in read.attributes if tag == "a" and name == "href"] == [
        f"#{each}" for each in found
    ]


def test_what_is_missing_is_left_out() -> None:
    assert Reader(object_page(ObjectReportData("bare", ONE, versions={}))).sections() == []
    bare = Reader(object_page(data(evaluation=evaluated(scores=False), rows=[], config_text="")))
    assert "calibration" not in bare.sections() and "training" not in bare.sections()
    assert "coco" not in bare.text.lower().replace("coco's average precision ranks", "")
    nothing = evaluate_objects(lambda sample: None, [], ONE)  # type: ignore[arg-type, return-value]
    read = Reader(object_page(data(evaluation=nothing)))
    assert read.sections() == ["training", "run"]
    assert "nothing could be scored" in read.text


def test_every_picture_shows_its_errors() -> None:
    read = Reader(object_page(data()))
    shown = [value for tag, name, value in read.attributes if tag == "img" and name == "alt"]
    assert len(shown) == 4 * 4
    assert {each.split(" of ")[0] for each in shown} == {"picture", "truth", "answer", "errors"}
    # Picture 1 lacks one square, and has the next in two.
    assert re.search(r"found of 16:\s+1 missed, 0 invented, 1 split, 0 merged", read.text)
    assert "missed" in read.text and "merged: several taken for one" in read.text


def test_the_headline_has_its_definition_and_remarks_are_told() -> None:
    html = object_page(data(evaluation=evaluated(remarks=("Thresholds were tuned here.",))))
    assert "TP / (TP + FP + FN)" in html.split("<nav")[0]
    assert "Thresholds were tuned here." in html.split("<nav")[0]
    assert "centre 0.4, smallest 12" in html


def verdict(truth: Instances, answer: Instances, **changes: Any) -> str:
    sample = Sample("", np.zeros((*truth.label_image.shape, 1), np.uint8), instances=truth)
    evaluation = evaluate_objects(lambda _: ObjectPrediction("", sample.image, ONE, answer), [sample], ONE, **changes)
    return " ".join(object_verdict(evaluation, []))


def test_the_verdict_says_what_is_wrong() -> None:
    whole = tiles(4, scores=False)
    perfect = verdict(whole, whole)
    assert "Of 100 objects 100 are found, and of 100 it finds 100 are there" in perfect
    assert "close to the true ones" in perfect and "Counts are right" in perfect and "commonest" not in perfect
    assert "commonest error: missed objects (8)" in verdict(whole, tiles(4, wrong=8, scores=False))
    assert "50.0 % too low in sum" in verdict(whole, tiles(4, wrong=8, scores=False)).replace("\u00a0", " ")
    merged = Instances(whole.label_image.copy(), np.ones(16, np.int16))
    merged.label_image[:, :] = 1
    assert "neighbours run together (1)" in verdict(whole, merged)
    assert "all 16 objects are missed" in verdict(whole, tiles(0, scores=False))
    assert "hold no objects; 16 were found" in verdict(tiles(0, scores=False), whole)
    assert "99.6" not in perfect


def test_nearly_all_is_not_all() -> None:
    image = np.zeros((1, 2000), np.int32)
    for number in range(400):
        image[0, 5 * number : 5 * number + 4] = number + 1
    truth = Instances(image, np.ones(400, np.int16))
    assert "Of 100 objects 99.7 are found" in verdict(truth, Instances(np.where(image == 1, 0, image), truth.classes))


def test_scores_that_promise_too_much() -> None:
    truth, answer = tiles(4, wrong=8, scores=False), tiles(4)
    sure = Instances(answer.label_image, answer.classes, np.full(16, 0.95, np.float32))
    assert "scores are too high (by 45.0 points" in verdict(truth, sure)


def test_charts() -> None:
    chart = threshold_chart("AP", (0.5, 0.75, 0.95), {"all": (0.9, 0.6, 0.2), "gone": (math.nan,) * 3})
    assert "gone" not in chart and "all, IoU 0.75: 60.0 %" in chart
    assert threshold_chart("AP", (0.5, 0.75), {"gone": (math.nan, math.nan)}) == ""
    counts = count_chart("Counts", [("a & b", 3, 5), ("c", 0, 0)])
    assert "a &amp; b: 5 found of 3" in counts and "2 pictures with 3 true objects, 5 found" in counts
    assert count_chart("Counts", []) == ""
    many = count_chart("Counts", [(str(i), i, i) for i in range(5000)])
    assert many.count("<circle") == 600 and "4,999" not in many.split("<svg")[0]


def test_the_page_is_small(tmp_path: Path) -> None:
    path = write_object_report(tmp_path / "report.html", data(TWO))
    assert path.stat().st_size < 2_000_000


def test_a_place_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        write_object_report(tmp_path / "nowhere" / "report.html", data())
