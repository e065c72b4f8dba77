"""The report of runs that are whole, empty, hostile or unusual."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from intarsia.errors import DiskError
from intarsia.records import IGNORE, Classes, Prediction, Sample
from intarsia.report import ReportData, page, write_report
from intarsia.training.evaluation import Evaluation, evaluate

HOSTILE = '<script>alert("1")</script>'
VOID = {"meta", "img", "input", "br"}


class Reader(HTMLParser):
    """Reads a page as a strict reader would: every element is closed in its turn, and every address is seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def sections(self) -> list[str]:
        return [value for tag, name, value in self.attributes if tag == "section" and name == "id"]


def evaluated(classes: Classes, pictures: int = 3, size: tuple[int, int] = (24, 36)) -> Evaluation:
    """Random labels and answers that agree in three of four pixels; the last class never occurs if there are three."""
    rng = np.random.default_rng(0)
    present = min(len(classes), 2)
    samples, answers = [], {}
    for i in range(pictures):
        name = f"{HOSTILE}{i}"
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        if classes.overlapping:
            labels = (rng.random((len(classes), *size)) > 0.5).astype(np.int8)
            labels[:, 0] = IGNORE
            samples.append(Sample(name, image, labels=labels))
            shown = (labels == 1).astype(np.float32)
        else:
            mask = rng.integers(0, present, size).astype(np.int16)
            samples.append(Sample(name, image, mask))
            shown = (mask == np.arange(len(classes))[:, None, None]).astype(np.float32)
        noise = rng.random((1, *size)) < 0.25
        answers[name] = np.where(noise, np.roll(shown, 1, axis=0), shown) * 0.8 + 0.2 / len(classes)
    return evaluate(
        lambda s: Prediction(s.name, s.image, classes, answers[s.name].astype(np.float32)), samples, classes
    )


def rows(classes: Classes) -> list[dict[str, float]]:
    """Twenty steps, each fifth validated."""
    told: list[dict[str, float]] = []
    for step in range(1, 21):
        row = {"step": step, "time": 2.0 * step, "train/total": 2 / step, "train/dice": 1 / step, "learning_rate": 0.1}
        row |= {f"train/{HOSTILE}": 1 / step}
        if step % 5 == 0:
            row |= {"validation/mean_iou": step / 40, "validation/loss": 2 / step}
            row |= {f"validation/iou/{name}": step / 40 for name in classes.names}
        told.append(row)
    return told


def data(classes: Classes, **changes: object) -> ReportData:
    whole = {
        "name": HOSTILE,
        "classes": classes,
        "config_text": f'[model]  # {HOSTILE}\nname = "unet"',
        "rows": rows(classes),
        "evaluation": evaluated(classes),
        "counts": {"training": 12, HOSTILE: 3},
        "seconds": 4000.0,
        "device": HOSTILE,
    }
    return ReportData(**{**whole, **changes})  # type: ignore[arg-type]


ORDINARY = Classes.named(("background", HOSTILE, "absent & gone"))


@pytest.mark.parametrize(
    "classes",
    [
        ORDINARY,
        Classes.named(("only",)),
        Classes.named(("cell", HOSTILE), overlapping=True),
        Classes.named(("only",), overlapping=True),
        Classes.named([f"class {i}" for i in range(40)]),
    ],
    ids=["three", "one", "overlapping", "one overlapping", "forty"],
)
def test_the_page_is_well_formed_and_stands_alone(classes: Classes) -> None:
    read = Reader(page(data(classes)))
    assert "script" not in read.seen
    addresses = [value for _, name, value in read.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert addresses
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert "link" not in read.seen
    assert not re.search(r"https?://|@import|url\(", page(data(classes)))
    assert all(name in read.text for name in classes.names)
    assert HOSTILE in read.text  # the run's name, told as it is


def test_no_name_becomes_markup() -> None:
    html = page(data(ORDINARY))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "absent &amp; gone" in html


def test_all_sections_of_a_whole_run() -> None:
    read = Reader(page(data(ORDINARY)))
    assert read.sections() == ["classes", "confusion", "training", "pictures", "calibration", "run"]
    anchors = [value for tag, name, value in read.attributes if tag == "a" and name == "href"]
    assert anchors == [f"#{section}" for section in read.sections()]


def test_what_is_missing_is_left_out() -> None:
    assert Reader(page(ReportData("bare", ORDINARY, versions={}))).sections() == []
    assert Reader(page(data(ORDINARY, rows=[]))).sections() == [
        "classes",
        "confusion",
        "pictures",
        "calibration",
        "run",
    ]
    assert Reader(page(data(ORDINARY, evaluation=None))).sections() == ["training", "run"]


def test_an_evaluation_of_nothing() -> None:
    nothing = evaluate(lambda sample: pytest.fail("nothing to predict"), [], ORDINARY)
    read = Reader(page(data(ORDINARY, evaluation=nothing)))
    assert "n/a" in read.text
    assert "pictures" not in read.sections()


def test_an_absent_class_is_said_to_be_left_out() -> None:
    read = Reader(page(data(ORDINARY)))
    assert "absent & gone is not in these pictures' labels, and left out of the means." in read.text


def test_every_picture_and_chart_has_words() -> None:
    read = Reader(page(data(ORDINARY)))
    pictures = [value for tag, name, value in read.attributes if tag == "img" and name == "alt"]
    assert len(pictures) == read.seen.count("img") == 5 * 3
    assert all(pictures)
    charts = [value for tag, name, value in read.attributes if tag == "svg" and name == "aria-label"]
    assert len(charts) == 5
    assert any("from 12.5 % at step 5 to 50 % at step 20" in chart for chart in charts)


def test_the_confusion_matrix_is_in_percent_of_the_true_class() -> None:
    classes = Classes.named(("a", "b"))
    mask = np.array([[0, 0, 0, 0, 1]], np.int16)
    said = np.array([[0, 0, 0, 1, 1]])
    sample = Sample("s", np.zeros((1, 5, 3), np.uint8), mask)
    probabilities = np.stack([said == 0, said == 1]).astype(np.float32)
    evaluation = evaluate(lambda s: Prediction(s.name, s.image, classes, probabilities), [sample], classes)
    html = page(data(classes, evaluation=evaluation))
    cells = re.findall(r'<td class="(?:hit|miss)[^>]*>(\d*)</td>', html)
    assert cells == ["75", "25", "", "100"]
    assert "25\u00a0% of <b>a</b> was taken for <b>b</b>." in html


def test_overlapping_classes_have_no_confusion_matrix() -> None:
    classes = Classes.named(("cell", "nucleus"), overlapping=True)
    assert "confusion" not in Reader(page(data(classes))).sections()


def test_many_classes_are_told_without_a_matrix() -> None:
    html = page(data(Classes.named([f"class {i}" for i in range(40)])))
    assert 'class="confusion"' not in html
    assert "was taken for" in html


def test_twelve_large_noisy_pictures_stay_below_six_megabytes() -> None:
    classes = Classes.named(("a", "b"))
    html = page(data(classes, evaluation=evaluated(classes, pictures=13, size=(320, 420))))
    assert html.count("<img ") == 12 * 5
    assert len(html.encode()) < 6_000_000


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", data(ORDINARY))
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", data(ORDINARY, name="caf\udce9"))
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="nowhere"):
        write_report(tmp_path / "nowhere" / "report.html", ReportData("r", ORDINARY))


def test_metrics_that_are_no_numbers_are_not_drawn() -> None:
    broken = [*rows(ORDINARY), {"step": 21, "time": math.nan, "train/total": math.inf, "validation/mean_iou": math.nan}]
    html = page(data(ORDINARY, rows=broken))
    assert "nan" not in re.sub(r"data:image[^\"]*", "", html).lower().replace("nano", "")
    assert "inf" not in "".join(re.findall(r'points="([^"]*)"', html))
