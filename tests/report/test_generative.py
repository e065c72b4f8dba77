"""The report of generative runs that are whole, empty, hostile or unusual."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intarsia.drawing import encode_png
from intarsia.errors import DiskError
from intarsia.metrics.scores import Score, Scores
from intarsia.report import GenerativeReportData, generative_page, write_generative_report
from intarsia.report.data import read_samples
from intarsia.report.figures import Bar, bar_chart
from intarsia.training.exploring import Explorer, Strip
from intarsia.training.generation import GenerativeEvaluation, Nearest, Reconstruction
from intarsia.training.verdicts import Verdict

from .test_page import HOSTILE, Reader

VALUES = (-3.0, -1.5, 0.0, 1.5, 3.0)


def blobs(*shape: int, side: int = 24, channels: int = 1) -> np.ndarray:
    """(*shape, side, side, channels) uint8: a bright disc on a dark ground, somewhere else each time."""
    random = np.random.default_rng(0)
    count = math.prod(shape)
    y, x = np.mgrid[:side, :side]
    centres = random.uniform(side / 4, 3 * side / 4, (count, 2))
    far = np.hypot(y[None] - centres[:, :1, None], x[None] - centres[:, 1:, None])
    tones = random.uniform(0.5, 1, (count, 1, 1, channels))
    pictures = 30 + 220 * tones * (1 / (1 + np.exp(far - side / 5)))[..., None]
    return pictures.astype(np.uint8).reshape(*shape, side, side, channels)


def evaluated(channels: int = 1, side: int = 24, **changes: Any) -> GenerativeEvaluation:
    pictures = blobs(64, channels=channels, side=side)
    kl = np.sort(np.random.default_rng(1).gamma(1, 0.6, 20))[::-1] * (np.arange(20) < 12)
    whole: dict[str, Any] = {
        "model": "vae",
        "scores": Scores(
            (),
            (
                Score("bits_per_dimension", 1.234, "bound with 64 samples over C H W ln 2; lower is better"),
                Score("coverage", 0.25, "share of the real whose ball holds a drawn one"),
                Score("coverage_real", 0.75, "the same of training pictures instead of the drawn ones"),
                Score("bound", -1234.5, "one sample"),
                Score("psnr", 23.4, "mean over 500 pictures; higher is better"),
                Score(f"frechet_distance_{HOSTILE}", math.nan, f"{HOSTILE} in 64 features of a network learnt here"),
            ),
        ),
        "verdicts": (
            Verdict("mode collapse", "bad", f"Of 10 classes 4 are never drawn {HOSTILE}.", "A smaller learning rate."),
            Verdict("posterior collapse", "warning", "12 of 20 dimensions are active.", "`--set model.free_bits=0.1<`"),
            Verdict("memorising", "good", "No drawn picture is nearer to a training picture than held-back ones are."),
        ),
        "counts": {"train": 5000, "held_back": 500, "drawn": 1000},
        "extractor": f"features of {HOSTILE}",
        "seed": 3,
        "seconds": 42.0,
        "drawn": pictures,
        "numbers": tuple(range(64)),
        "reconstructions": tuple(
            Reconstruction(f"{HOSTILE}{i}", pictures[i], pictures[i] // 2 if i % 2 else None, pictures[i + 1])
            for i in range(6)
        ),
        "nearest": tuple(Nearest(i, pictures[i], f"{HOSTILE}.png", pictures[i + 8], 0.05 * i) for i in range(8)),
        "kl_dimensions": kl,
        "active": kl > 0,
        "codes": np.random.default_rng(2).geometric(0.02, 300),
        "class_names": tuple(f"class {HOSTILE} {i}" for i in range(10)),
        "class_histogram": np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05, 0, 0, 0, 0]),
        "class_histogram_real": np.full(10, 0.1),
        "explorer": Explorer(
            4, 7, VALUES, blobs(5, 5, channels=channels, side=side),
            tuple(Strip(i, 0.9, 1.2 if i else None, VALUES, blobs(5, channels=channels, side=side)) for i in (4, 7, 0)),
        ),
        "missing": {"fid": f"no weights of Inception {HOSTILE}"},
    }  # fmt: skip
    return GenerativeEvaluation(**{**whole, **changes})


def rows(parts: tuple[str, ...] = ("critic", "generator")) -> list[dict[str, float]]:
    """Forty steps, each fifth validated."""
    told: list[dict[str, float]] = []
    for step in range(1, 41):
        row: dict[str, float] = {"step": 10 * step, "time": 2.0 * step, "learning_rate": 2e-4}
        for part in parts:
            prefix = f"train/{part}/" if part else "train/"
            row |= {f"{prefix}total": 2 / step, f"{prefix}{HOSTILE}": 1 / step}
        if step % 5 == 0:
            row |= {"validation/score": step / 40, "validation/frechet_distance": 30 / step}
        told.append(row)
    return told


def data(**changes: Any) -> GenerativeReportData:
    whole: dict[str, Any] = {
        "name": HOSTILE,
        "config_text": f'[model]  # {HOSTILE}\nname = "vae"',
        "rows": rows(),
        "evaluation": evaluated(),
        "counts": {"train": 5000, "validation": 500},
        "samples": [(step, blobs(1, side=200, channels=3)[0]) for step in (100, 200, 400)],
        "seconds": 4000.0,
        "device": HOSTILE,
    }
    return GenerativeReportData(**{**whole, **changes})


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_page_is_well_formed_and_stands_alone(channels: int) -> None:
    html = generative_page(data(evaluation=evaluated(channels)))
    read = Reader(html)
    assert "script" not in read.seen and "link" not in read.seen
    addresses = [value for _, name, value in read.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "<script" not in html and HOSTILE in read.text
    assert read.sections() == [
        "drawn", "reconstructions", "scores", "nearest", "latent", "codebook", "classes", "time", "training", "run",
    ]  # fmt: skip
    pictures = [value for tag, name, value in read.attributes if tag == "img" and name == "alt"]
    assert len(pictures) == 64 + 15 + 16 + 4 + 3 and all(pictures)
    assert ("channels the first are shown" in read.text) == (channels in (2, 5))


def test_verdicts_come_first_in_words_and_say_what_to_try() -> None:
    read = Reader(generative_page(data()))
    opening = read.text[: read.text.index("Not chosen by hand")]
    for words in ("In trouble", "1 alarm, 1 to watch, 1 fine", "alarm", "Mode collapse", "Try:", "A smaller learning"):
        assert words in opening
    assert "<code>--set model.free_bits=0.1&lt;</code>" in generative_page(data())
    assert "Sound" in generative_page(data(evaluation=evaluated(verdicts=(Verdict("memorising", "good", "None."),))))
    assert "Not judged" in generative_page(data(evaluation=evaluated(verdicts=())))


def test_every_number_stands_with_its_definition() -> None:
    text = Reader(generative_page(data())).text
    assert "Coverage real" not in text and "−1,234" in text  # noqa: RUF001
    assert text.index("Coverage") < text.index("0.25") < text.index("0.75") < text.index("Share of the real whose")
    assert "Of real pictures: the same of training pictures" in text
    for words in ("1.234", "Bound with 64 samples", "PSNR", "23.4", "n/a", "Not measured", "no weights of Inception"):
        assert words in text


@pytest.mark.parametrize("parts", [("",), ("critic", "generator"), ("auto_encoder", "prior")])
def test_each_part_has_its_losses(parts: tuple[str, ...]) -> None:
    read = Reader(generative_page(data(rows=rows(parts))))
    titles = ["Loss"] if parts == ("",) else [f"Loss of the {each.replace('_', ' ')}" for each in parts]
    assert all(title in read.words for title in titles)
    assert "Score on held-back pictures" in read.words
    assert "Frechet distance" not in read.words and "Fréchet distance" in read.words


def test_what_is_missing_is_left_out() -> None:
    bare = GenerativeEvaluation("gan", Scores((), ()), (), {}, None, 0, 1.0)
    for evaluation in (None, bare):
        read = Reader(generative_page(GenerativeReportData("plain", evaluation=evaluation)))
        assert "plain" in read.text
        assert set(read.sections()) <= {"scores", "run"}
    odd = evaluated(
        drawn=blobs(1), numbers=(7,), active=None, kl_dimensions=np.zeros(3), codes=np.zeros(4, np.int64),
        class_histogram=np.array([math.nan, 1.0]), class_names=("a", "b"), class_histogram_real=None,
        reconstructions=(),
    )  # fmt: skip
    read = Reader(generative_page(data(evaluation=odd, samples=[], rows=[{"step": 1.0, "train/total": math.nan}])))
    assert "codebook" not in read.sections() and "picture 7" in str(read.attributes)


def test_large_pictures_keep_the_page_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 300, 400, 3), np.uint8)
    evaluation = evaluated(
        drawn=noise, numbers=tuple(range(16)), explorer=None,
        reconstructions=tuple(Reconstruction(str(i), each, each, each) for i, each in enumerate(noise[:12])),
    )  # fmt: skip
    assert len(generative_page(data(evaluation=evaluation))) < 8_000_000


def test_a_steps_samples_are_found_by_their_number(tmp_path: Path) -> None:
    for step in range(0, 100, 4):
        (tmp_path / f"{step:06d}.png").write_bytes(encode_png(np.full((4, 4, 3), step, np.uint8)))
    (tmp_path / "notes.png").write_bytes(b"")
    (tmp_path / "000096.png").write_bytes(b"cut")
    (tmp_path / "000100.png").write_bytes(encode_png(np.full((4, 4, 3), 100, np.uint8)))
    found = read_samples(tmp_path, most=5)
    assert len(found) == 5 and found[0][0] == 0 and found[-1][0] == 100
    assert all((picture == step).all() for step, picture in found)
    assert 96 not in [step for step, _ in read_samples(tmp_path, most=99)]
    assert read_samples(tmp_path / "nowhere") == []


def test_bars_have_the_lengths_of_their_values() -> None:
    html = bar_chart("Title", [Bar("a", 4.0), Bar(HOSTILE, 2.0, 2), Bar("c", 0.0)], "nats", "things", ("one", "two"))
    heights = [float(each) for each in re.findall(r'<rect[^>]* height="([\d.]+)"', html)]
    assert heights[1] == pytest.approx(heights[0] / 2, abs=0.02) and heights[2] == 0
    assert "<script" not in html and "4 nats" in html
    assert bar_chart("Title", [], "nats", "things") == ""
    many = bar_chart("Title", [Bar(str(i), float(i)) for i in range(1000)], "%", "codes")
    assert many.count("<rect") == 128 and "1,000 codes, a bar is the mean of about 8" in many
    assert "<rect" in bar_chart("Title", [Bar("a", 0.0)], "nats", "things")


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    assert write_generative_report(tmp_path / "report.html", data()).read_text().endswith("</html>\n")
    with pytest.raises(DiskError):
        write_generative_report(tmp_path / "nowhere" / "report.html", data())
