"""A run is a folder: everything that a training made, readable without us, safe against a kill at any moment.

    NAME/
    ├── config.toml           everything needed to repeat it
    ├── classes.json          names and colours
    ├── data.json             how many pictures there were, and a digest that tells whether they are still the same
    ├── weights.safetensors   the moving average of the last weights
    ├── best.safetensors      the same at the best validation
    ├── state.pt              weights, optimizers, progress: the same command again goes on from here
    ├── thresholds.json       of models of objects: what makes objects of maps or boxes, tuned on validation pictures
    ├── metrics.jsonl         one row a report or validation
    ├── events.out.tfevents…  the same for TensorBoard
    ├── samples/              the same validation pictures over time
    └── report.html, evaluation.json

Every file is written under another name, flushed, then renamed. Nothing in it is a pickle that executes.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .errors import DataError, UnsafeFileError, UsageError
from .files import Lock, append, remove_parts, require_writable, write_atomically
from .models import AnyModel, build
from .models.contract import InstanceModel, Model
from .records import Classes

Which = Literal["best", "last"]


class Run:
    """A run's folder. Nothing is read or written until asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config_path = self.folder / "config.toml"
        self.classes_path = self.folder / "classes.json"
        self.state_path = self.folder / "state.pt"
        self.metrics_path = self.folder / "metrics.jsonl"
        self.thresholds_path = self.folder / "thresholds.json"
        self.samples_path = self.folder / "samples"
        self.report_path = self.folder / "report.html"
        self.evaluation_path = self.folder / "evaluation.json"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def exists(self) -> bool:
        return self.config_path.is_file()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it, this process is the folder's one writer. Raises DiskError where that can't be."""
        require_writable(self.folder)
        with Lock(self.folder / ".lock"):
            for folder in (self.folder, self.samples_path):
                remove_parts(folder, alone=True)
            yield

    def evaluation_paths(self, others: str = "") -> tuple[Path, Path]:
        """The files of an evaluation, numbers and report; of other pictures than the run's own beside those of its own,
        called by `others`, whatever characters that has."""
        if not others:
            return self.evaluation_path, self.report_path
        name = re.sub(r"[^\w-]+", "_", others)[-100:].strip("_") or "others"
        return self.folder / f"evaluation-{name}.json", self.folder / f"report-{name}.html"

    # configuration and classes

    def write_config(self, text: str) -> None:
        write_atomically(self.config_path, text.encode())

    def read_config(self) -> dict[str, Any]:
        """The configuration as a tree of plain values. Raises UsageError where there is none or it can't be read."""
        if not self.exists():
            raise UsageError(
                f"{self.folder} is not a run: it has no config.toml; give the folder that `intarsia fit` made, "
                "such as runs/NAME."
            )
        try:
            tree = tomllib.loads(self.config_path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.config_path} is not valid TOML: {error}.") from error
        if not isinstance(tree.get("model"), dict):
            raise UsageError(f"{self.config_path} has no [model], as every run's has; restore it from a copy.")
        return tree

    def model_config(self) -> AnyModel:
        tree = self.read_config().get("model")
        try:
            return TypeAdapter[AnyModel](AnyModel).validate_python(tree)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{self.config_path} describes no model of ours: [model] {where}: {first['msg']}."
            ) from error

    def write_classes(self, classes: Classes) -> None:
        tree = {"names": classes.names, "colours": classes.colours, "overlapping": classes.overlapping}
        write_atomically(self.classes_path, json.dumps(tree, indent=1).encode())

    def classes(self) -> Classes:
        try:
            tree = json.loads(self.classes_path.read_text(encoding="utf-8"))
            colours = tuple((int(r), int(g), int(b)) for r, g, b in tree["colours"])
            return Classes(tuple(map(str, tree["names"])), colours, bool(tree["overlapping"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.classes_path} can't be read as a class list ({error}); is the run's folder whole?"
            ) from error

    def temperature(self) -> float:
        """What logits are divided by, as `evaluate` fitted it on validation pictures; 1 where nothing was fitted."""
        try:
            tree = json.loads((self.folder / "temperature.json").read_text(encoding="utf-8"))
            temperature = float(tree["temperature"])
        except (OSError, ValueError, KeyError, TypeError):
            return 1.0
        return temperature if 0 < temperature < math.inf else 1.0

    def write_thresholds(self, thresholds: Mapping[str, float], score: float, pictures: int) -> None:
        """Keeps what `tune` found: the score (AP50) at these thresholds, over so many validation pictures."""
        tree = {"thresholds": dict(thresholds), "score": score, "pictures": pictures}
        write_atomically(self.thresholds_path, json.dumps(tree, indent=1).encode())

    def thresholds(self) -> dict[str, float]:
        """What was tuned on validation pictures; nothing where nothing was."""
        try:
            tree = json.loads(self.thresholds_path.read_text(encoding="utf-8"))
            found = {str(name): float(value) for name, value in tree["thresholds"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def read_data(self) -> dict[str, Any]:
        """What data.json says of the pictures that the run was begun with; nothing where it is missing or damaged."""
        try:
            tree = json.loads((self.folder / "data.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return tree if isinstance(tree, dict) else {}

    # weights

    def weights_path(self, which: Which = "last") -> Path:
        return self.folder / ("best.safetensors" if which == "best" else "weights.safetensors")

    def write_weights(self, tensors: dict[str, Tensor], which: Which, step: int) -> None:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        # One entry of metadata, no more: safetensors writes several in an order of chance, and equal weights would not
        # be equal files.
        write_atomically(self.weights_path(which), save(plain, {"step": str(step)}))

    def load_model(self, which: Which = "best") -> Model:
        """The trained model in eval mode on the CPU; `best` falls back to `last` where no validation was made."""
        model = build(self.model_config(), fetch=False)
        path = self.weights_path(which)
        if which == "best" and not path.is_file():
            path = self.weights_path("last")
        load_weights(model, path)
        if isinstance(model, InstanceModel):
            tuned = self.thresholds()
            model.thresholds |= {name: tuned[name] for name in model.thresholds if name in tuned}
        return model.eval()

    # the state of the training

    def write_state(self, state: dict[str, Any]) -> None:
        write_atomically(self.state_path, lambda file: torch.save(state, file))

    def read_state(self) -> dict[str, Any] | None:
        """What `write_state` wrote, on the CPU; None where nothing was."""
        if not self.state_path.is_file():
            return None
        return read_tensors(self.state_path)

    # metrics

    def append_metrics(self, row: dict[str, float]) -> None:
        append(self.metrics_path, (json.dumps(row) + "\n").encode())

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows in order; a last line that a kill cut short is left out."""
        if not self.metrics_path.is_file():
            return []
        rows = []
        for line in self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values()):
                rows.append(row)
        return rows

    def cut_metrics(self, step: int) -> None:
        """Leaves out the rows after a step: those that a killed run wrote after its last saved state."""
        rows = [row for row in self.read_metrics() if row.get("step", 0) <= step]
        write_atomically(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def load_weights(model: Model, path: Path) -> None:
    """Puts the weights of a safetensors file into a model. Raises UnsafeFileError for any other format, unopened."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist: the run has no weights yet; run `intarsia fit` until its first save.")
    if path.suffix != ".safetensors":
        raise UnsafeFileError(
            f"{path} is not a .safetensors file; other checkpoints can run code when they are opened: it stays closed. "
            "Convert it where it came from with safetensors.torch.save_file(model.state_dict(), ...)."
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        if is_pickle(path) or zipfile.is_zipfile(path):
            raise UnsafeFileError(
                f"{path} is a pickle named .safetensors; it could run code and is refused unopened."
            ) from error
        raise DataError(
            f"{path} is damaged ({error}); take the run's other weights, or train again from its state."
        ) from error
    own = model.state_dict()
    missing, surplus = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    other = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if missing or surplus or other:
        example = next(iter(sorted([*missing, *surplus, *other])))
        raise UsageError(
            f"{path} does not fit the run's config.toml: {len(missing)} tensors are missing, {len(surplus)} unknown, "
            f"{len(other)} of another shape (such as {example}); was the config changed after training?"
        )
    model.load_state_dict(tensors)


def is_pickle(path: Path) -> bool:
    """Whether a file is a bare pickle, told by its first byte: of protocol 2 and newer the mark 0x80, of older ones
    what a list, a dictionary, a tuple or an object begins with. A safetensors file may begin with any byte, the length
    of its header, but then the header's brace is the ninth."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[:1] in (b"\x80", b"(", b"]", b"}", b"c") and head[8:] != b"{"


def read_tensors(path: Path) -> dict[str, Any]:
    """What torch.save wrote, where that is tensors, numbers and strings; anything else is refused, unopened."""
    if not zipfile.is_zipfile(path):
        if is_pickle(path):
            raise UnsafeFileError(f"{path} is a bare pickle; it could run code and is refused unopened.")
        raise DataError(f"{path} is damaged or no file of ours; restore it, or delete it to start over.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no error of its own for a pickle that it refuses
        if "Unsupported" in str(error) or "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise UnsafeFileError(
                f"{path} holds objects that could run code, not only tensors; it is refused."
            ) from error
        raise DataError(
            f"{path} is damaged ({type(error).__name__}); restore it, or delete it to start over."
        ) from error
