"""The run folder: what is written comes back, what does not fit or can't be trusted is refused in words."""

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from intarsia.config import Config, to_toml
from intarsia.errors import DataError, DiskError, UnsafeFileError, UsageError
from intarsia.models import build
from intarsia.models.semantic import UNetConfig
from intarsia.records import Classes
from intarsia.runs import Run, load_weights

SMALL = UNetConfig(width=4, depth=1, classes=3, channels=1)
CLASSES = Classes(("ground", "Fuß", "Bäume & Büsche"), ((0, 0, 0), (255, 10, 0), (1, 2, 3)))


class Payload:
    """A pickle of this makes a file when it is opened."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.write_config(to_toml(Config(model=SMALL)))
    run.write_classes(CLASSES)
    return run


def weights(seed: int = 0, config: UNetConfig = SMALL) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return build(config).state_dict()


def test_a_run_tells_its_name_and_whether_it_is_one(run: Run, tmp_path: Path) -> None:
    assert run.name == "run" and run.exists()
    assert not Run(tmp_path / "nothing").exists()
    assert not (tmp_path / "nothing").exists()


def test_the_configuration_comes_back(run: Run) -> None:
    assert Config.model_validate(run.read_config()) == Config(model=SMALL)
    assert run.model_config() == SMALL


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a run: it has no config\.toml"):
        Run(tmp_path).read_config()


@pytest.mark.parametrize(
    ("text", "words"),
    [("[model", "is not valid TOML"), ("seed = 1", r"has no \[model\]"),
     ('[model]\nname = "skynet"', "describes no model of ours"),
     ('[model]\nname = "unet"\nheight = 3', r"\[model\] unet\.height")],
)  # fmt: skip
def test_a_configuration_without_a_model_of_ours(run: Run, text: str, words: str) -> None:
    run.write_config(text)
    with pytest.raises(UsageError, match=words):
        run.model_config()


@pytest.mark.parametrize("classes", [CLASSES, Classes.named(["a", "b"], overlapping=True)])
def test_classes_come_back(run: Run, classes: Classes) -> None:
    run.write_classes(classes)
    assert run.classes() == classes


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"names": ["a"], "colours": [[1, 2]], "overlapping": 0}', "\x00"])
def test_damaged_classes_are_told(run: Run, text: str) -> None:
    run.classes_path.write_text(text)
    with pytest.raises(UsageError, match="can't be read as a class list"):
        run.classes()


def test_weights_come_back_bit_for_bit(run: Run) -> None:
    last, best = weights(1), weights(2)
    last = {name: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for name, v in last.items()}
    run.write_weights(last, "last", step=7)
    loaded = run.load_model("best")  # there is no best one yet
    assert all(torch.equal(value, last[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training
    run.write_weights(best, "best", step=3)
    assert all(torch.equal(value, best[name]) for name, value in run.load_model("best").state_dict().items())
    assert all(torch.equal(value, last[name]) for name, value in run.load_model("last").state_dict().items())


def test_a_run_without_weights_says_so(run: Run) -> None:
    with pytest.raises(UsageError, match=r"weights\.safetensors does not exist: the run has no weights yet"):
        run.load_model()


def test_weights_of_another_shape_are_refused_with_names(run: Run) -> None:
    run.write_weights(weights(config=UNetConfig(width=4, depth=1, classes=5, channels=1)), "last", 0)
    with pytest.raises(UsageError, match=r"0 tensors are missing, 0 unknown, 2 of another shape \(such as classifier"):
        run.load_model()


def test_missing_and_unknown_weights_are_counted(run: Run) -> None:
    given = weights()
    first = next(iter(sorted(given)))
    given["a.stranger"] = given.pop(first)
    save_file(given, run.weights_path())
    with pytest.raises(UsageError, match=r"1 tensors are missing, 1 unknown, 0 of another shape .*a\.stranger"):
        run.load_model()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_in_the_place_of_weights_is_not_opened(run: Run, tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "it was opened"
    run.weights_path().write_bytes(pickle.dumps(Payload(proof), protocol))
    with pytest.raises(UnsafeFileError, match="pickle") as caught:
        run.load_model()
    assert caught.value.exit_code == 4
    assert not proof.exists()


def test_a_checkpoint_of_torch_in_the_place_of_weights_is_not_opened(run: Run, tmp_path: Path) -> None:
    proof = tmp_path / "it was opened"
    for name in ("weights.safetensors", "weights.pt"):
        torch.save(Payload(proof), run.folder / name)
        with pytest.raises(UnsafeFileError):
            load_weights(build(SMALL), run.folder / name)
    assert not proof.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickled_state_is_not_opened(run: Run, tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "it was opened"
    run.state_path.write_bytes(pickle.dumps(Payload(proof), protocol))
    with pytest.raises(UnsafeFileError):
        run.read_state()
    assert not proof.exists()


def test_a_state_of_torch_with_an_object_in_it_is_refused(run: Run, tmp_path: Path) -> None:
    proof = tmp_path / "it was opened"
    torch.save({"model": {}, "progress": Payload(proof)}, run.state_path)
    with pytest.raises(UnsafeFileError, match="objects that could run code") as caught:
        run.read_state()
    assert caught.value.exit_code == 4
    assert not proof.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated_files_are_damaged_and_nothing_worse(run: Run, share: float) -> None:
    run.write_weights(weights(), "last", 0)
    run.write_state({"model": weights()})
    for path in (run.weights_path(), run.state_path):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged") as weights_error:
        run.load_model()
    with pytest.raises(DataError, match=r"state\.pt is damaged") as state_error:
        run.read_state()
    assert weights_error.value.exit_code == state_error.value.exit_code == 3


@pytest.mark.parametrize("length", [40, 128, 640, 40 + 256])
def test_a_header_that_begins_like_a_pickle_is_none(run: Run, length: int) -> None:
    """The first bytes of safetensors are the length of its header: 640 is 80 02, as a pickle's first bytes are."""
    content = length.to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    run.weights_path().write_bytes(content)
    with pytest.raises(DataError, match="is damaged") as caught:
        run.load_model()
    assert caught.value.exit_code == 3


def test_a_state_comes_back(run: Run) -> None:
    assert run.read_state() is None
    state = {"model": weights(), "progress": {"step": 5, "best": float("-inf")}, "names": ["a", None]}
    run.write_state(state)
    back = run.read_state()
    assert back is not None
    assert back["progress"] == state["progress"] and back["names"] == state["names"]
    assert all(torch.equal(value, back["model"][name]) for name, value in weights().items())


def test_a_failed_write_leaves_the_old_file(run: Run) -> None:
    run.write_state({"step": 1})
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        run.write_state({"step": lambda: 2})
    assert run.read_state() == {"step": 1}
    assert not list(run.folder.glob(".*.part"))


def test_metrics_come_back_in_order(run: Run) -> None:
    assert run.read_metrics() == []
    rows = [{"step": i, "train/total": 1 / (i + 1)} for i in range(4)]
    for row in rows:
        run.append_metrics(row)
    assert run.read_metrics() == rows
    assert [json.loads(line) for line in run.metrics_path.read_text().splitlines()] == rows


def test_a_line_that_a_kill_cut_short_is_left_out(run: Run) -> None:
    run.append_metrics({"step": 1})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 2, "train/to')
    assert run.read_metrics() == [{"step": 1}]


def test_metrics_are_cut_after_a_step(run: Run) -> None:
    """A killed run wrote more rows than its last saved state knows of; going on writes them again."""
    for step in (1, 5, 10, 15):
        run.append_metrics({"step": step})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 20, "tr')
    run.cut_metrics(10)
    run.append_metrics({"step": 11})
    assert [row["step"] for row in run.read_metrics()] == [1, 5, 10, 11]
    assert run.metrics_path.read_text().endswith('{"step": 10}\n{"step": 11}\n')


def test_metrics_that_can_t_be_written_are_an_error_of_the_disk(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.metrics_path.mkdir()
    with pytest.raises(DiskError, match=r"metrics\.jsonl can't be written"):
        run.append_metrics({"step": 1})


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "run")
    with run.writing():
        (run.folder / ".12345678-1-1-nobody.part").write_bytes(b"left by a killed writer")
        with pytest.raises(DiskError, match="is in use by process"), Run(run.folder).writing():
            pass
    with run.writing():
        assert not list(run.folder.glob("*.part"))


def test_nothing_written_is_a_pickle(run: Run) -> None:
    """What a stranger reads of our run needs no unpickling but for tensors and numbers."""
    run.write_weights(weights(), "last", 3)
    run.write_state({"model": weights(), "step": 3})
    assert load_file(run.weights_path()).keys() == weights().keys()
    assert torch.load(io.BytesIO(run.state_path.read_bytes()), weights_only=True)["step"] == 3
