"""What is compared: each way to learn from few masks, or to find objects, as settings over one plan, and what has to be
made before."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from ..config import Config, read_config, validate
from ..errors import UsageError
from ..models import MODELS
from ..models.combined import Combination
from ..models.contract import InstanceConfig, InstanceModel
from ..models.semantic import SHARED
from ..plan.imbalance import IMBALANCE

CONTROL = "control"
EQUAL_TIME = "control (equal time)"

#: what a model may not recommend here, because all methods have it alike
ALIKE = ("augment.", "data.", "train.steps", "train.epochs", "train.minutes", "train.batch", "train.average")

#: what is taken from the labelled pictures of each training, and not from those whose masks it must not know
FROM_LABELLED = ("classes", "overlapping", "mean", "deviation", "unit", "anchor_sizes", "anchor_ratios")


@dataclass(frozen=True)
class Method:
    """One way to learn."""

    what: str  # one line for the user
    settings: Mapping[str, Any] = field(default_factory=dict)  # over the plan
    start: Mapping[str, Any] | None = None  # a training before, with these settings, from whose weights it starts
    pairs: Literal["pseudo_label", "synthesize"] | None = None  # what is made with the control, to learn from beside
    length: float = 1.0  # times the steps of the comparison

    @property
    def staged(self) -> bool:
        """Whether it takes more than one training, or another length, so that settings alone do not say it."""
        return self.start is not None or self.pairs is not None or self.length != 1


METHODS: dict[str, Method] = {
    CONTROL: Method("the planned segmenter on the labelled pictures alone"),
    "short_control": Method("the control, stopped after a third of the steps: few masks are soon learnt by heart",
                            length=1 / 3),
    "mean_teacher": Method(
        "agrees on unlabelled pictures with the average of its own past", {"model.name": "mean_teacher"}
    ),
    "fixmatch": Method("its teacher's confident answers are masks for a changed view", {"model.name": "fixmatch"}),
    "unimatch": Method(
        "the same for two changed views, and one with features dropped", {"model.name": "unimatch"}
    ),
    "segmentation_autoencoder": Method(
        "also puts damaged pictures together again, labelled or not", {"model.name": "segmentation_autoencoder"}
    ),
    "pretraining": Method(
        "mends damaged pictures for the first half of the steps, then learns masks too",
        {"model.name": "segmentation_autoencoder", "model.pretrain": 0.5},
    ),
    "frozen_features": Method(
        "a small classifier on an encoder that only ever mended pictures",
        {"model.name": "frozen_features"},
        start={"model.name": "segmentation_autoencoder", "model.alpha": 1.0},
    ),
    "random_features": Method(
        "the same classifier on an encoder that nobody trained: what of the gain is the classifier's",
        {"model.name": "frozen_features"},
    ),
    "vae_segmenter": Method("also a variational autoencoder of the pictures", {"model.name": "vae_segmenter"}),
    "shape_prior": Method("draws its answers towards the shapes that masks have", {"model.name": "shape_prior"}),
    "adversarial": Method("a critic tells its answers from masks", {"model.name": "adversarial"}),
    "wnet": Method("also cuts pictures into regions of one colour each", {"model.name": "wnet"}),
    "pseudo_labels": Method(
        "the control's confident answers on unlabelled pictures are further masks", pairs="pseudo_label"
    ),
    "synthesis": Method("further pictures are drawn for masks, by a GAN trained on the labelled", pairs="synthesize"),
}  # fmt: skip

#: what is compared where objects are judged; all but Mask R-CNN make objects of maps of one and the same segmenter
OBJECT_METHODS: dict[str, Method] = {
    CONTROL: Method("inside and border of objects by a segmenter, then watershed, on the labelled pictures alone"),
    "short_control": METHODS["short_control"],
    "instance_segnet": Method(
        "class, depth and the way to its centre for each pixel, on the labelled pictures alone",
        {"model.name": "instance_segnet", "model.alpha": 0.0},
    ),
    "instance_segnet_unlabelled": Method(
        "the same, and puts damaged pictures together again, labelled or not",
        {"model.name": "instance_segnet", "model.alpha": 0.3},
    ),
    "mask_rcnn": Method(
        "a box for each object, and its mask inside the box, on the labelled pictures alone",
        {"model.name": "mask_rcnn"},
    ),
}

#: the control's model where objects are judged
FLOOR = "watershed"

#: how the generator of `synthesis` is trained
GENERATOR: Mapping[str, Any] = {"model.name": "pix2pix", "model.task": "mask_to_picture"}


def methods_for(imbalance: bool, objects: bool = False) -> dict[str, Method]:
    """All methods that can be compared: those whose models there are; with `imbalance`, measures against rare
    classes, where the control is without any; with `objects`, ways to find objects."""
    if imbalance:
        measures = {name: Method(_told(each), each) for name, each in IMBALANCE.items() if name != "none"}
        return {CONTROL: Method("no measure against imbalance", IMBALANCE["none"])} | measures
    kinds = OBJECT_METHODS if objects else METHODS
    return {name: method for name, method in kinds.items() if not _lacking(method)}


def finds_objects(names: str | Sequence[str]) -> bool:
    """Whether one of the named methods is only there where objects are judged."""
    return any(name in OBJECT_METHODS and name not in METHODS for name in _named(names))


def _named(names: str | Sequence[str]) -> list[str]:
    return [each.strip() for each in (names.split(",") if isinstance(names, str) else names) if each.strip()]


def choose(names: str | Sequence[str], imbalance: bool = False, objects: bool = False) -> dict[str, Method]:
    """The named methods ("all", "a,b" or a sequence), the control first, whether it was named or not.

    Raises UsageError for one that does not exist, with the nearest that does.
    """
    known = methods_for(imbalance, objects)
    wanted = _named(names)
    if wanted in (["all"], []):
        return known
    for name in wanted:
        if name not in known:
            kinds = OBJECT_METHODS if objects else METHODS
            if not imbalance and name in kinds:
                raise UsageError(f"{name} can't be compared: {_lacking(kinds[name])}; there are {', '.join(known)}.")
            if objects and name in METHODS:
                raise UsageError(
                    f"{name} learns masks, and these trainings are judged by objects; there are {', '.join(known)}."
                )
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"{name!r} is no method; {hint}there are {', '.join(known)}, and all.")
    return {name: known[name] for name in dict.fromkeys((CONTROL, *wanted))}


def shared_tree(planned: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What all trainings have alike: the plan with the user's settings over it, but for what only the labelled
    pictures of each can say, and for the budget."""
    asked = read_config(None, settings, planned)
    tree = asked.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    model = tree["model"] = {"name": asked.model.name} | tree.get("model", {})
    for key in FROM_LABELLED:
        if f"model.{key}" not in settings:
            model.pop(key, None)
    if "model.loss.weights" not in settings and "loss" in model:
        model["loss"].pop("weights", None)
    for budget in ("steps", "epochs", "minutes"):
        tree.get("train", {}).pop(budget, None)
    return tree


def configuration(
    shared: Mapping[str, Any],
    settings: Mapping[str, Any],
    labels: int,
    seed: int,
    steps: int,
    split_seed: int = 0,
    tuned: bool = False,
) -> Config:
    """The whole configuration of one training: the shared plan, a method's settings over it, its labels and seed.

    A combination gets the planned segmenter inside it, and so does what makes objects of a segmenter's maps. Nothing is
    chosen while it trains: no validation before the end, no early stop. tuned: the thresholds by which objects are made
    are to be tuned on validation pictures at the end.
    """
    tree = copy.deepcopy(dict(shared))
    name = settings.get("model.name", tree["model"]["name"])
    if name not in MODELS:
        raise UsageError(f"{name!r} is no model; there are {', '.join(MODELS)}.")
    if issubclass(MODELS[name], Combination):
        planned = tree["model"]
        tree["model"] = {key: value for key, value in planned.items() if key in SHARED} | {
            "name": name, "segmenter": {key: value for key, value in planned.items() if key not in SHARED},
        }  # fmt: skip
    elif issubclass(MODELS[name], InstanceModel) and name != tree["model"]["name"]:
        alike = {*InstanceConfig.model_fields, "segmenter"} & MODELS[name].Config.model_fields.keys()
        tree["model"] = {key: value for key, value in tree["model"].items() if key in alike} | {"name": name}
    given = {key: value for key, value in MODELS[name].recommended.items() if not key.startswith(ALIKE)}
    given |= settings
    given |= {
        "seed": seed, "data.labelled": labels, "data.split_seed": split_seed, "train.steps": steps,
        "train.validate_every": steps + 1, "train.patience": 0,
        # looked at once, at the end, for the run's own samples; but for thresholds they decide nothing
        "data.validation_pictures": 40 if tuned else 4,
    }  # fmt: skip
    return read_config(None, given, validate(tree, "the comparison"))


def _lacking(method: Method) -> str:
    """What is not there that a method needs, in words; empty where nothing is."""
    for settings in (method.settings, method.start or {}):
        if settings.get("model.name", "unet") not in MODELS:
            return f"there is no model {settings['model.name']!r}"
    if method.pairs and find_spec("intarsia.fitting.pairs") is None:
        return "nothing here makes pairs of pictures and masks"
    return ""


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in settings.items())
