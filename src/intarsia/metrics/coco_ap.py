"""COCO's average precision of masks: objects are ranked by their scores, and precision is averaged over recalls.

Lin, Maire, Belongie et al., "Microsoft COCO: Common Objects in Context", 2014, https://arxiv.org/abs/1405.0312; the
numbers are described at https://cocodataset.org/#detection-eval. It is not TP / (TP + FP + FN), which `objects.py`
gives: every name here begins with coco_. Counted by faster-coco-eval (https://github.com/MiXaiLL76/faster_coco_eval,
Apache-2.0), which gives the numbers of pycocotools.

Where we differ: COCO counts the 100 best scored objects of a picture; microscopy shows more. So many count as the
picture with the most true objects has, and 100 at least. Where nobody knows the truth is a crowd of every class, as
COCO has it: an object that mostly lies in it counts neither for nor against.

An object becomes the run lengths of its mask, the pixels column by column; nothing is a mask of the whole picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError
from ..records import IGNORE, Classes, Instances
from .scores import Score, Scores, column

COCO_DETECTIONS = 100  # objects of a picture that COCO counts
SMALL, MEDIUM = 32**2, 96**2  # pixels up to which an object is small, or medium, for COCO
AT_50, AT_75 = 0, 5  # places among the ten thresholds 0.5, 0.55, ..., 0.95
ALL = 0  # place among the sizes: all, small, medium, large


@dataclass
class CocoAP:
    """True and predicted objects of pictures as COCO's run lengths, and the scores that follow from all of them."""

    classes: Classes  # the background first
    images: list[dict[str, Any]] = field(default_factory=list)
    true: list[dict[str, Any]] = field(default_factory=list)
    predicted: list[dict[str, Any]] = field(default_factory=list)
    most: int = COCO_DETECTIONS  # objects of a picture that count, best score first
    scored: bool = True  # False: some answer had no scores, so nothing can be ranked

    def add(self, truth: Instances, answer: Instances) -> None:
        """Count one picture. Objects that overlap count whole, where their `runs` are there. Raises DataError for
        label images of different sizes."""
        if truth.label_image.shape != answer.label_image.shape:
            raise DataError(
                f"truth {truth.label_image.shape} and prediction {answer.label_image.shape} must be label images of "
                "one shape."
            )
        size = tuple(int(each) for each in truth.label_image.shape)
        number = len(self.images) + 1
        self.images.append({"id": number, "height": size[0], "width": size[1]})
        objects = object_runs(truth)
        for place, runs in objects.items():
            self.true.append(self._annotation(len(self.true) + 1, number, truth.classes[place], runs, size))
        self.most = max(self.most, len(objects))
        if (truth.label_image == IGNORE).any():
            unknown = runs_of(np.where(truth.label_image == IGNORE, 1, 0))[1]
            for each in range(1, len(self.classes)):
                crowd = self._annotation(len(self.true) + 1, number, each, unknown, size)
                self.true.append(crowd | {"iscrowd": 1})
        if answer.scores is None:
            self.scored = self.scored and not len(answer)
            return
        for place, runs in object_runs(answer).items():
            found = self._annotation(len(self.predicted) + 1, number, answer.classes[place], runs, size)
            self.predicted.append(found | {"score": float(answer.scores[place])})

    def _annotation(self, number: int, image: int, of: int, runs: np.ndarray, size: tuple[int, ...]) -> dict[str, Any]:
        from faster_coco_eval import mask

        area = int(runs[1::2].sum())
        packed = mask.frPyObjects({"counts": runs.tolist(), "size": list(size)}, *size)
        return {
            "id": number, "image_id": image, "category_id": int(of), "segmentation": packed, "area": area,
            "iscrowd": 0,
        }  # fmt: skip

    def scores(self) -> Scores:
        """AP, AP50, AP75, by size, AR, and AP of each class but the background; none where answers had no scores.

        NaN where the truth holds no such object; 0 where it does and nothing was found.
        """
        names = self.classes.names[1:]
        if not self.scored:
            return Scores(names, ())
        precision, recall = self._evaluated()

        def mean(values: np.ndarray) -> float:
            there = values[values > -1]  # COCO's -1: no true object
            return float(there.mean()) if len(there) else math.nan

        ranked = "precision at 101 recalls, objects ranked by score"
        limits = f"the {self.most} best scored objects of a picture"
        over = f"mean over classes, the IoU thresholds 0.5, 0.55, ..., 0.95 and recalls of COCO's {ranked}; {limits}"
        sizes = (f"up to {SMALL} pixels", f"{SMALL} to {MEDIUM} pixels", f"from {MEDIUM} pixels on")
        told = [
            Score("coco_AP", mean(precision[:, :, :, ALL]), over),
            Score("coco_AP50", mean(precision[AT_50, :, :, ALL]), "the same at IoU >= 0.5 alone"),
            Score("coco_AP75", mean(precision[AT_75, :, :, ALL]), "the same at IoU >= 0.75 alone"),
        ]
        for place, (name, pixels) in enumerate(zip(("small", "medium", "large"), sizes, strict=True), start=1):
            told.append(Score(f"coco_AP_{name}", mean(precision[:, :, :, place]), f"coco_AP of objects {pixels}"))
        told.append(Score("coco_AR", mean(recall[:, :, ALL]), f"COCO's average recall: {limits}, mean over the same"))
        of_class = np.array([mean(precision[:, :, number, ALL]) for number in range(len(names))])
        words = "COCO's average precision of the class's masks, over the IoU thresholds 0.5, 0.55, ..., 0.95"
        return Scores(names, tuple(told), {"coco_AP": column(of_class)}, {"coco_AP": words})

    def _evaluated(self) -> tuple[np.ndarray, np.ndarray]:
        """COCO's precision (10, 101, K - 1, 4) and recall (10, K - 1, 4), -1 where there is no true object."""
        from faster_coco_eval import COCO, COCOeval_faster

        shared = {
            "images": self.images,
            "categories": [
                {"id": number, "name": self.classes.names[number]} for number in range(1, len(self.classes))
            ],
        }
        if not self.images:
            nothing = len(self.classes) - 1
            return np.full((10, 101, nothing, 4), -1.0), np.full((10, nothing, 4), -1.0)
        truth, answer = (COCO({**shared, "annotations": each}) for each in (self.true, self.predicted))
        evaluation = COCOeval_faster(truth, answer, iouType="segm", rle_iou_max_workers=1)
        evaluation.params.maxDets = [self.most]
        evaluation.evaluate()
        evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"])[..., 0], np.asarray(evaluation.eval["recall"])[..., 0]


def object_runs(instances: Instances) -> dict[int, np.ndarray]:
    """The run lengths of each object, by its place in `classes`: whole where the objects overlap and it is known,
    else of what the label image shows; without those of which there is no pixel."""
    if instances.runs is not None:
        return {place: runs for place, runs in enumerate(instances.runs) if runs[1::2].any()}
    return {number - 1: runs for number, runs in runs_of(instances.label_image).items()}


def runs_of(label_image: np.ndarray) -> dict[int, np.ndarray]:
    """By their numbers the objects of a label image (H, W), each (R,) int64: pixels outside, inside, outside, ...,
    column by column, which sum to H x W.

    >>> {number: runs.tolist() for number, runs in runs_of(np.array([[0, 1], [2, 1]])).items()}
    {1: [2, 2], 2: [1, 1, 2]}
    """
    flat = label_image.T.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1)) if len(flat) else np.zeros(0, np.int64)
    ends = np.append(starts[1:], len(flat))
    inside = np.flatnonzero(flat[starts] > 0)
    order = inside[np.argsort(flat[starts[inside]], kind="stable")]
    numbers = flat[starts[order]]
    found = {}
    for places in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else ():
        borders = np.stack([starts[places], ends[places]], axis=1).ravel()
        runs = np.diff(borders, prepend=0)
        found[int(flat[borders[0]])] = np.append(runs, len(flat) - borders[-1]) if borders[-1] < len(flat) else runs
    return found
