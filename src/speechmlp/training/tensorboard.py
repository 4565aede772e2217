"""TensorBoard: hyperparameters, scalars of each epoch; at the end headline scores, confusion matrix, sound of mistakes.

Dimension key: `N` utterances.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from speechmlp.config.keys import flat_values
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus
from speechmlp.data.manifest import Utterance
from speechmlp.errors import UserError
from speechmlp.evaluation.html_page import load_pyplot
from speechmlp.evaluation.html_report import confusion_figure
from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.text import HEADLINES, Headline, headlines
from speechmlp.runs.history import EpochRecord

EACH_EPOCH = ("loss", "accuracy")
"""Headline scores that an epoch's record has; the others are of the epoch that is kept."""
SCALARS = {
    "train_loss": "loss/train",
    "valid_loss": "loss/valid",
    "train_accuracy": "accuracy/train",
    "valid_accuracy": "accuracy/valid",
    "lr": "learning rate",
}
"""Key of a line of metrics.jsonl -> its curve."""
MISTAKES = 12
"""The largest number of mistakes, the most certain first."""
ELSEWHERE = ("output.", "device", "corpus.cache")
"""Settings that say where a run takes place; the others are its hyperparameters."""


def hyperparameters(config: Config) -> dict[str, str | float | bool]:
    """Returns the dotted keys of a configuration with values that TensorBoard takes: others as JSON."""
    chosen = {key: value for key, value in flat_values(config).items() if not key.startswith(ELSEWHERE)}
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in chosen.items()}


def _kept_name(headline: Headline) -> str:
    """Returns the tag of a score of the epoch that is kept, which those of each epoch do not show."""
    return f"{headline.field}/{'kept' if headline.field in EACH_EPOCH else 'valid'}"


class Board:
    """Event files in a run folder, for `tensorboard --logdir runs` (extra `tensorboard`).

    Making one checks that TensorBoard is installed; `open` starts to write.

    Raises:
        UserError: it is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams

            load_pyplot()
        except (ImportError, UserError) as error:
            raise UserError(
                "output.tensorboard: needs TensorBoard and matplotlib: python -m pip install 'speechmlp[tensorboard]'"
            ) from error
        self._kind = SummaryWriter
        self._hparams: Any = hparams

    def open(self, run: Path, epochs_done: int, config: Config) -> None:
        """Starts writing into a run folder, from the epoch after those done; writes the hyperparameters."""
        self._labels, self._rate = config.labels, config.input.sample_rate
        self._writer = self._kind(str(run), purge_step=epochs_done + 1)
        # What SummaryWriter.add_hparams writes, but not into a folder of its own, which would count as another run.
        metrics = dict.fromkeys(map(_kept_name, HEADLINES))
        experiment, start, self._end = self._hparams(hyperparameters(config), metrics)
        self._add(experiment, start)

    def _add(self, *summaries: Any) -> None:
        files: Any = self._writer
        for summary in summaries:
            files._get_file_writer().add_summary(summary)

    def epoch(self, record: EpochRecord) -> None:
        """Writes an epoch's losses, accuracies and learning rate."""
        values = record.to_json()
        for key, name in SCALARS.items():
            if values.get(key) is not None:  # what a run does not measure has no curve
                self._writer.add_scalar(name, values[key], record.epoch)
        self._writer.flush()

    def close(
        self,
        epoch: int,
        logits: Tensor,
        labels: Tensor,
        reject_below: float,
        valid: DeviceCorpus,
        utterances: Sequence[Utterance],
    ) -> None:
        """Writes the headline scores, the confusion matrix and the mistakes on the validation set, and ends.

        Args:
            epoch: that is kept.
            logits: float32 [N, L], divided by the temperature.
            labels: int64 [N].
            reject_below: probability under which a letter is rejected.
            valid: the N utterances.
            utterances: N lines of the manifest.
        """
        speakers = [utterance.speaker for utterance in utterances]
        scores = score(logits, labels, speakers, reject_below=reject_below, names=self._labels)
        for headline, estimate in headlines(scores):
            self._writer.add_scalar(_kept_name(headline), estimate.value, epoch)
        probability, recognised = logits.softmax(1).max(1)
        self._writer.add_figure("confusion matrix/valid", confusion_figure(scores), epoch)
        wrong = (recognised != labels).nonzero()[:, 0]
        wrong = wrong[probability[wrong].argsort(descending=True, stable=True)][:MISTAKES]
        waveforms = valid.take(wrong.to(valid.device)).waveforms.cpu()
        for number, (position, waveform) in enumerate(zip(wrong.tolist(), waveforms, strict=True), start=1):
            taken = f"{self._labels[labels[position]]} taken for {self._labels[recognised[position]]}"
            said = utterances[position]
            self._writer.add_audio(
                f"mistakes/{number}: {taken}, {said.speaker}, {said.id}", waveform, epoch, self._rate
            )
        self._add(self._end)
        self._writer.close()
