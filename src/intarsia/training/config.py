"""How a model is trained: how long, by which optimizer, on what schedule, at which precision."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(BaseModel):
    """One run of the loop. Steps are the unit; epochs are turned into them, minutes go by the clock."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int | None = Field(None, gt=0)  # the budget: exactly one of steps, epochs and minutes
    epochs: float | None = Field(None, gt=0)  # times every training picture is seen
    minutes: float | None = Field(None, gt=0)  # of training and validation together; ends within a step of it
    start: str | None = None  # weights to begin with: a run's folder, or "torchvision/NAME"; None = random ones
    batch: int = Field(8, ge=1)  # pictures a step; of segmenters the labelled ones
    unlabelled: int | None = Field(None, ge=0)  # pictures without their masks beside them; None = as many, where learnt
    generated: int | None = Field(None, ge=0)  # made pairs of data.generated beside them; None = half as many
    accumulate: int = Field(1, ge=1)  # batches whose gradients are added up before a step

    optimizer: Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)  # at the schedule's top
    rates: dict[str, float] = Field({}, max_length=8)  # factor of the rate for a part, by name: {"critic": 2.0}
    momentum: float = Field(0.9, ge=0, lt=1)  # of "momentum" (with Nesterov's correction) and "rmsprop"
    betas: tuple[Decay, Decay] = (0.9, 0.999)  # of "adam" and "adamw"
    weight_decay: float = Field(0.01, ge=0)  # L2 on weights, never on biases and norms; decoupled with "adamw"
    l1: float = Field(0.0, ge=0)  # pull of weights towards 0, a constant force; 0 = none
    schedule: Literal["constant", "step", "poly", "cosine", "one_cycle"] = "cosine"
    warmup: float = Field(0.03, ge=0, lt=1)  # share of the training over which the rate rises from 0
    step_every: float = Field(0.3, gt=0, le=1)  # "step": share of the training between two drops
    step_factor: float = Field(0.1, gt=0, lt=1)  # "step": what the rate is multiplied by at a drop
    power: float = Field(0.9, gt=0)  # "poly": exponent of (1 - progress)
    clip: float = Field(5.0, ge=0)  # largest norm of a part's gradient; 0 = leave it
    average: float = Field(0.999, ge=0, lt=1)  # decay of the moving average of weights that is kept; 0 = none

    validate_every: int | None = Field(None, gt=0)  # steps; None = about 20 times in the run
    patience: int = Field(0, ge=0)  # early stopping: validations without a better score before the end; 0 = never
    checkpoint_seconds: float = Field(120.0, ge=0)  # between two saved states; 0 = after every step
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"  # auto = what this device is faster with
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, gt=0)  # of torch; None = every core
    workers: int = Field(1, ge=0)  # threads that prepare batches ahead; 0 = none, the batches stay the same

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are all given; give exactly one of steps, epochs and minutes.")
        return self
