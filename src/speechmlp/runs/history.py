"""The history of a model: a record of each epoch, the choice of the epoch to keep, when to stop, and calibration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from speechmlp.config.schema import TrainingConfig


@dataclass(frozen=True)
class EpochRecord:
    """One line of metrics.jsonl.

    Attributes:
        epoch: number of the epoch, from 1.
        step: optimizer steps so far.
        lr: learning rate of the last step of the epoch.
        train_loss: mean training loss during the epoch, in nats.
        valid_loss: mean cross-entropy on the validation set after the epoch, in nats.
        valid_accuracy: accuracy on the validation set after the epoch.
        seconds: wall-clock time of the epoch, including validation.
        best: whether this epoch is the one to keep so far: highest validation accuracy, then lowest validation loss.
            Always true if the last epoch is kept.
        stop: why training ends after this epoch; None if it continues.
        train_accuracy: accuracy on training letters after the epoch, measured like that on the validation set: without
            augmentation and dropout. None if it was not measured, as in runs of earlier versions.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    best: bool
    stop: str | None
    train_accuracy: float | None = None

    def to_json(self) -> dict[str, float | int | bool | str | None]:
        """Returns plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    """What temperature and threshold of a model lead to on the letters that they were fitted on.

    Attributes:
        on: what these letters are.
        letters: how many.
        right: fraction of them that is answered with the spoken letter.
        wrong: fraction that is answered with another letter.
        rejected: fraction that is rejected.
        rejected_right: fraction that is rejected although the most probable letter is the spoken one.
        others: number of non-letters that were there too.
        others_rejected: fraction of them that is rejected; None if there were none.
    """

    on: str
    letters: int
    right: float
    wrong: float
    rejected: float
    rejected_right: float
    others: int = 0
    others_rejected: float | None = None


def stop_reason(config: TrainingConfig, epoch: int, train_loss: float, best_epoch: int) -> str | None:
    """Returns why training ends after an epoch, or None if it continues."""
    if config.stop_at_loss is not None and train_loss < config.stop_at_loss:
        return f"training loss {train_loss:.4f} is under stop_at_loss {config.stop_at_loss:g}"
    if config.patience is not None and epoch - best_epoch >= config.patience:
        return f"no better validation result in {config.patience} epochs"
    return f"all {config.epochs} epochs done" if epoch == config.epochs else None


def kept_epoch(history: Sequence[EpochRecord], config: TrainingConfig) -> EpochRecord | None:
    """Returns the record of the epoch to keep, or None if no epoch is finished."""
    if config.keep == "last":
        return history[-1] if history else None
    return max(history, key=lambda record: (record.valid_accuracy, -record.valid_loss), default=None)


def next_record(
    history: Sequence[EpochRecord],
    config: TrainingConfig,
    step: int,
    lr: float,
    train_loss: float,
    valid_loss: float,
    valid_accuracy: float,
    seconds: float,
    train_accuracy: float | None = None,
) -> EpochRecord:
    """Returns the record of the epoch after those in the history, including whether to keep it and why to stop.

    Args:
        history: records of the epochs before.
        config: the training section.
        step: as in `EpochRecord`.
        lr: as in `EpochRecord`.
        train_loss: as in `EpochRecord`.
        valid_loss: as in `EpochRecord`.
        valid_accuracy: as in `EpochRecord`.
        seconds: as in `EpochRecord`.
        train_accuracy: as in `EpochRecord`.
    """
    epoch, best = len(history) + 1, kept_epoch(history, config)
    is_best = (
        config.keep == "last" or best is None or (valid_accuracy, -valid_loss) > (best.valid_accuracy, -best.valid_loss)
    )
    best_epoch = epoch if is_best or best is None else best.epoch
    stop = stop_reason(config, epoch, train_loss, best_epoch)
    return EpochRecord(epoch, step, lr, train_loss, valid_loss, valid_accuracy, seconds, is_best, stop, train_accuracy)


def finished(history: list[EpochRecord], config: TrainingConfig) -> str | None:
    """Returns why training is finished, or None if it is not."""
    best = kept_epoch(history, config)
    return None if best is None else stop_reason(config, len(history), history[-1].train_loss, best.epoch)
