"""The page's section on several raters: how far the answer is from each of them, and they from each other."""

from __future__ import annotations

from ..training.evaluation import IN_UNITS
from .data import ReportData
from .markup import facts, folded, paragraph, section
from .wording import percentage

TITLES = {
    "mean_rater_dice": "Dice with each rater",
    "mean_people_dice": "Dice of the raters with each other",
    "mean_rater_iou": "IoU with each rater",
    "mean_people_iou": "IoU of the raters with each other",
    "energy_distance": "Generalised energy distance, squared",
    "answer_diversity": "Distance of two answers",
    "people_diversity": "Distance of two raters",
    "best_match_iou": "IoU of each rater's nearest answer",
    "matched_iou": "IoU of answers and raters, paired",
    "rater_calibration_error": "Calibration error, held against each rater",
    "rater_brier": "Brier score, held against each rater",
}
READING = (
    "Several people labelled these pictures. An answer that is as near to each of them as they are to each other is as "
    "good as one of them; where the model gives several answers, they should differ as the people do, and as often."
)


def raters(data: ReportData) -> str:
    """The scores against several raters' masks; empty where pictures have one mask each."""
    if data.evaluation is None:
        return ""
    scores = {score.name: score for score in data.evaluation.scores.overall}
    told = {title: scores[name] for name, title in TITLES.items() if name in scores}
    if not told:
        return ""
    numbers = {
        title: f"{each.value:.4f}" if each.name in IN_UNITS else percentage(each.value) for title, each in told.items()
    }
    definitions = facts({title: each.definition for title, each in told.items()})
    return section("raters", "Raters", paragraph(READING) + facts(numbers) + folded("What they mean", definitions))
