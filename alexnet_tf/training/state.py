"""What a checkpoint holds beside weights and momentum: how far a run is, and what it has found so far."""

import dataclasses
import math

from alexnet_tf.training import schedules


@dataclasses.dataclass
class TrainState:
    """How far a run is.

    Attributes:
        epoch: Epochs done.
        step: Steps done in the current epoch.
        loss_sum: Sum of their mean losses, in nats.
        wrong: How many of their examples were classified wrongly.
        plateau: What the "plateau" schedule remembers.
        history: A row of history.csv for each epoch.
        best_error: Lowest top-1 validation error.
        best_loss: Validation loss in the same epoch.
        best_step: Step of that epoch's end; None before the first.
        skipped: By split, "train" and "validation": why images could not be read, by their index.
        is_over: Whether the schedule ended the run before its last epoch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    wrong: int = 0
    plateau: schedules.Plateau = dataclasses.field(default_factory=schedules.Plateau)
    history: list[dict] = dataclasses.field(default_factory=list)
    best_error: float = math.inf
    best_loss: float = math.inf
    best_step: int | None = None
    skipped: dict[str, dict[int, str]] = dataclasses.field(default_factory=lambda: {"train": {}, "validation": {}})
    is_over: bool = False

    def to_json(self) -> dict:
        """Returns the state as JSON can hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict) -> "TrainState":
        """Returns the state that a checkpoint holds; JSON has turned the images' indices into strings."""
        skipped = {
            split: {int(index): why for index, why in images.items()} for split, images in content["skipped"].items()
        }
        return cls(**content | {"plateau": schedules.Plateau(**content["plateau"]), "skipped": skipped})

    def count(self, loss: float, wrong: int) -> None:
        """Adds a step's mean loss and its wrongly classified examples."""
        self.step += 1
        self.loss_sum += loss
        self.wrong += wrong

    def end_epoch(self, row: dict, *, step: int, patience: int | None) -> bool:
        """Takes an epoch's row of history.csv and begins the next epoch.

        Args:
            row: With "val_top1_error" and "val_loss".
            step: Steps since the start.
            patience: Of the "plateau" schedule; None for the others.

        Returns:
            Whether it is the best epoch so far.
        """
        self.history.append(row)
        is_best = (row["val_top1_error"], row["val_loss"]) < (self.best_error, self.best_loss)
        if is_best:
            self.best_error, self.best_loss, self.best_step = row["val_top1_error"], row["val_loss"], step
        if patience is not None:
            self.is_over = self.plateau.update(row["val_top1_error"], patience)
        self.epoch, self.step, self.loss_sum, self.wrong = self.epoch + 1, 0, 0.0, 0
        return is_best
