"""TensorBoard: scalars of each epoch; at the end a confusion matrix and the sound of mistakes (extra `tensorboard`).

Dimension key: `N` utterances.
"""

from pathlib import Path

import torch
from torch import Tensor

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.data.dataset import DeviceCorpus
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, NUM_LETTERS
from speechmlp.runs.history import EpochRecord

MISTAKES = 12
"""The largest number of mistakes, the most certain first."""
CELL = 12
"""Pixels of a letter in the picture of the confusion matrix."""


class Board:
    """Event files in a run folder, for `tensorboard --logdir runs`.

    Making one checks that TensorBoard is installed; `open` starts to write.

    Raises:
        UserError: it is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "output.tensorboard: needs TensorBoard: python -m pip install 'speechmlp[tensorboard]'"
            ) from error
        self._kind = SummaryWriter

    def open(self, run: Path, epochs_done: int) -> None:
        """Starts writing into a run folder, from the epoch after those done."""
        self._writer = self._kind(str(run), purge_step=epochs_done + 1)

    def epoch(self, record: EpochRecord) -> None:
        """Writes an epoch's losses, validation accuracy and learning rate."""
        scalars = {
            "loss/train": record.train_loss,
            "loss/valid": record.valid_loss,
            "accuracy/valid": record.valid_accuracy,
            "learning rate": record.lr,
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self, epoch: int, logits: Tensor, labels: Tensor, valid: DeviceCorpus) -> None:
        """Writes the confusion matrix and the mistakes on the validation set, and ends.

        Args:
            epoch: that is kept.
            logits: float32 [N, 26].
            labels: int64 [N].
            valid: the N utterances.
        """
        probability, recognised = logits.softmax(1).max(1)
        counts = torch.bincount(labels * NUM_LETTERS + recognised, minlength=NUM_LETTERS**2).view(NUM_LETTERS, -1)
        shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
        picture = shares.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[None]
        name = "confusion (rows spoken, columns recognised, A to Z)"
        self._writer.add_image(name, picture, epoch)
        wrong = (recognised != labels).nonzero()[:, 0]
        wrong = wrong[probability[wrong].argsort(descending=True, stable=True)][:MISTAKES]
        waveforms = valid.take(wrong.to(valid.device)).waveforms.cpu()
        for number, (place, waveform) in enumerate(zip(wrong.tolist(), waveforms, strict=True), start=1):
            title = f"mistakes/{number}: {LETTERS[labels[place]]} taken for {LETTERS[recognised[place]]}"
            self._writer.add_audio(title, waveform, epoch, SAMPLE_RATE)
        self._writer.close()
