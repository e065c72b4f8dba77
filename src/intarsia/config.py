"""The whole experiment as one typed value: read from TOML, overridden by the command line, written with reasons."""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .data.augment import AugmentConfig
from .errors import UsageError
from .models import MODELS, AnyModel
from .models.semantic import SEGMENTERS, UNetConfig
from .training.config import TrainConfig

MODEL_NAMES = ("model.name", "model.segmenter.name")  # of the model, and of the segmenter inside a combination
BUDGETS = ("train.steps", "train.epochs", "train.minutes")  # one at most


class DataConfig(BaseModel):
    """Which pictures are learnt from and which are kept for validation and test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str = "."  # pictures and masks
    classes: str | None = None  # another classes.toml than the folder's own
    validation: float = Field(0.2, ge=0, lt=1)  # share of the labelled pictures; the folder's own lists win
    test: float = Field(0.0, ge=0, lt=1)  # likewise
    split_seed: int | None = Field(None, ge=0)  # of that division, whatever draws the rest; None = the run's seed
    leave_out: tuple[str, ...] = ()  # groups (drives, patients, slides) that are the validation part, and no others
    labelled: int | None = Field(None, gt=0)  # masks kept for training; the rest count as unlabelled; None = all
    generated: str | None = (
        None  # a folder of made pairs (`synthesize`, `pseudo-label`) to learn from beside the others
    )
    cache_megabytes: float = Field(4096, ge=0)  # decoded pictures kept in memory; 0 = decoded again each time
    whole: bool = False  # generative models: scale pictures until they just cover augment.crop; False: cut pieces
    validation_pictures: int = Field(200, ge=1)  # at most so many are looked at during training; all at its end


class Config(BaseModel):
    """One run: `intarsia fit` repeats it from this alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, le=2**31 - 1)
    data: DataConfig = DataConfig()
    model: AnyModel = UNetConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()


def read_config(path: Path | None, overrides: Mapping[str, Any] | None = None, base: Config | None = None) -> Config:
    """The configuration of a TOML file (or `base`, or the defaults) with overrides such as {"train.steps": "500"}.

    Strings in overrides are read as TOML where they can be, as in a file: 500, true, [1, 2], "text"; the order of
    overrides does not matter. Giving one of steps, epochs and minutes takes the place of whichever was there. What
    `base` leaves at its default without saying so stays open. Raises UsageError naming the field and the nearest right
    one.
    """
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist; `intarsia plan FOLDER` writes a config.toml.") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} can't be read as TOML: {error}.") from error
    else:
        tree = base.model_dump(mode="json", exclude_none=True, exclude_unset=True) if base else {}
        if base:
            tree.setdefault("model", {})["name"] = base.model.name
    given = overrides or {}
    budgets = [name for name in BUDGETS if name in given]
    if len(budgets) > 1:
        raise UsageError(f"{' and '.join(budgets)} are all given; give one budget.")
    # another model drops the settings of the one before, so its name comes before settings of its own
    for dotted in sorted(given, key=lambda name: (name.count("."), name not in MODEL_NAMES)):
        _put(tree, dotted, given[dotted])
    return validate(tree, str(path) if path else "the configuration")


def validate(tree: Mapping[str, Any], source: str) -> Config:
    """The tree as a Config; UsageError in words where it is none."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UsageError(explain(error, source)) from error


def explain(error: ValidationError, source: str) -> str:
    """A sentence for each thing that is wrong: the field, what was given, what is allowed, the nearest right name."""
    sentences = []
    for each in error.errors():
        place = [str(part) for part in each["loc"]]
        given = each.get("input")
        if each["type"] == "extra_forbidden":
            known = list(_section_at(Config, place[:-1]).model_fields)
            near = difflib.get_close_matches(place[-1], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            sentences.append(f"{_dotted(place)} is no setting; {hint}")
        elif each["type"] == "union_tag_invalid":
            wanted = str(given.get("name", "")) if isinstance(given, Mapping) else str(given)
            known_names = list(MODELS if place == ["model"] else SEGMENTERS)
            near = difflib.get_close_matches(wanted, known_names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            what = "model" if place == ["model"] else "segmenter"
            sentences.append(
                f"{_dotted(place)}.name = {wanted!r} is no {what}; {hint}there are {', '.join(known_names)}."
            )
        elif each["type"] == "union_tag_not_found":
            known_names = list(MODELS if place == ["model"] else SEGMENTERS)
            sentences.append(f"[{_dotted(place)}] needs a name, one of {', '.join(known_names)}.")
        else:
            message = each["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(given, Mapping) else f" = {given!r}"
            sentences.append(
                f"{_dotted(place)}{shown}: {message[0].lower()}{message[1:]}{'' if message.endswith('.') else '.'}"
            )
    return f"{source}: " + " ".join(sentences)


def differences(ours: Config, theirs: Config) -> list[str]:
    """A line for each setting that differs: "train.steps: 500 -> 600"."""
    flat_ours, flat_theirs = _flat(ours.model_dump(mode="json")), _flat(theirs.model_dump(mode="json"))
    keys = [*flat_ours, *(key for key in flat_theirs if key not in flat_ours)]
    return [
        f"{key}: {flat_ours.get(key)} -> {flat_theirs.get(key)}"
        for key in keys
        if flat_ours.get(key) != flat_theirs.get(key)
    ]


def to_toml(config: Config, reasons: Mapping[str, str] | None = None, heading: Sequence[str] = ()) -> str:
    """The configuration as TOML, each setting with its reason as a comment: {"train.batch": "fits into 24 GiB"}."""
    reasons = reasons or {}
    document = tomlkit.document()
    for line in heading:
        document.add(tomlkit.comment(line))
    tree = config.model_dump(mode="json", exclude_none=True)
    for key, value in tree.items():
        if not isinstance(value, Mapping):
            document.add(key, tomlkit.item(value))
            _comment(document, key, reasons.get(key))
    for key, value in tree.items():
        if isinstance(value, Mapping):
            document.add(key, _table(value, key, reasons))
    return tomlkit.dumps(document)


def _table(tree: Mapping[str, Any], prefix: str, reasons: Mapping[str, str]) -> tomlkit.items.Table:
    table = tomlkit.table()
    if prefix in reasons:
        table.add(tomlkit.comment(reasons[prefix]))
    nested = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
    for key, value in tree.items():
        if key not in nested:
            table.add(key, tomlkit.item(value))
            _comment(table, key, reasons.get(f"{prefix}.{key}"))
    for key, value in nested.items():
        table.add(key, _table(value, f"{prefix}.{key}", reasons))
    return table


def _comment(container: Any, key: str, reason: str | None) -> None:
    if reason:
        container.item(key).comment(reason.replace("\n", " "))


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    if isinstance(value, str):
        with suppress(tomllib.TOMLDecodeError):  # a bare word is a string
            read = tomllib.loads(f"value = {value}")["value"]
            if isinstance(read, str) or not _takes_text(parents, leaf):  # a folder may be called 2018
                value = read
    branch = tree
    for parent in parents:
        branch = branch.setdefault(parent, {})
        if not isinstance(branch, dict):
            raise UsageError(f"{dotted} can't be set: {parent} is a value, not a section.")
    if dotted in BUDGETS:
        for other in BUDGETS:
            branch.pop(other.removeprefix("train."), None)
    if dotted in MODEL_NAMES and branch.get("name") != value:
        shared = {"channels", "classes", "overlapping", "mean", "deviation", "loss"}
        known = set(MODELS[value].Config.model_fields) if value in MODELS else shared
        for key in [key for key in branch if key not in shared & known]:
            branch.pop(key)  # another model's own settings mean nothing to this one
    branch[leaf] = value


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _dotted(place: Sequence[str]) -> str:
    """Where a field stands in the file; pydantic also names the member of the union, as in model.unet.width."""
    unions = ("model", "segmenter")
    shown = [part for i, part in enumerate(place) if not (i and place[i - 1] in unions and part in MODELS)]
    return ".".join(part for part in shown if part != "[key]")


def _takes_text(parents: Sequence[str], leaf: str) -> bool:
    """Whether a setting is any text, so that a number given for it is meant as text too."""
    field = _section_at(Config, parents).model_fields.get(leaf)
    return field is not None and (field.annotation is str or set(get_args(field.annotation)) == {str, type(None)})


def _section_at(model: type[BaseModel], place: Sequence[str]) -> type[BaseModel]:
    """The configuration class at a place in the file; where that is no section, the one around it."""
    for part in place:
        if part in MODELS:
            model = MODELS[part].Config
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        nested = _model_in(annotation)
        if nested is not None:
            model = nested
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The configuration class in `X`, `X | None` or `Annotated[X, …]`; None for unions of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        found = [m for m in map(_model_in, get_args(annotation)) if m is not None]
        return found[0] if len(found) == 1 else None
    return None
