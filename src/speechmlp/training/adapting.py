"""Adapt a trained model to a voice with few recordings, without forgetting everybody else.

The network is trained on the voice's takes and on those of other people (replay), and the starting model is its teacher
on both (learning without forgetting, Li & Hoiem, 2016). The result lies between the starting weights and the trained
ones (Wortsman et al., 2022, "Robust fine-tuning of zero-shot models"), where takes that were held out decide.
"""

import copy
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from speechmlp.audio.recordings import LeftOut
from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.corpora.folder import read_source
from speechmlp.data.dataset import DeviceCorpus
from speechmlp.data.fingerprints import Fingerprints
from speechmlp.data.manifest import Utterance
from speechmlp.data.sampler import Sampler
from speechmlp.errors import UserError
from speechmlp.evaluation.calibration import fit_reject_below, fit_temperature
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import select_device
from speechmlp.runs.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, rewrite_checkpoint
from speechmlp.training.loop import Task, train
from speechmlp.training.optimizers import build_optimizer
from speechmlp.training.partial import Interrupted
from speechmlp.training.resume import load_start
from speechmlp.training.run import load_teachers
from speechmlp.training.voice import Others, Predictions, Voice, hold_out, of_speaker, require_known

WORSE = 0.003
"""Largest fraction of other people's letters that may be lost."""
MIXTURES = (1.0, 0.75, 0.5, 0.25)
"""How far towards the trained weights the result may be."""
CAUTIOUS = 0.5
"""The farthest if no take was held out, or nobody else is at hand to train on."""
ENOUGH = 40
"""Held-out takes from which on a temperature is fitted on them."""

Progress = Callable[[float, str], None]


class Cancelled(Exception):  # noqa: N818 - not an error
    """Adapting was cancelled; nothing was written."""


@dataclass(frozen=True)
class Measured:
    """How many of some recordings were recognised, by the starting model and by the adapted one.

    Attributes:
        count: number of recordings.
        before: recognised by the starting model.
        after: recognised by the adapted model.
    """

    count: int
    before: int
    after: int

    @classmethod
    def of(cls, before: Predictions, after: Predictions) -> "Measured":
        """Returns how many both models recognise of the same recordings."""
        return cls(len(before.labels), before.right, after.right)

    def __str__(self) -> str:
        before, after = (f"{100 * right / self.count:.1f}%" for right in (self.before, self.after))
        return f"{before} -> {after} of {self.count}"


@dataclass(frozen=True)
class Adaptation:
    """What came of adapting a model to a voice.

    Attributes:
        speaker: the voice.
        takes: recordings that were trained on.
        held_out: the voice's takes that were not trained on; None if no letter has two takes.
        trained_on: the takes trained on; no measure of accuracy.
        others: letters of other people; None if there are none at hand.
        mixture: how far from the starting weights to the trained ones the model is, up to 1; 0 if it was not kept.
        missing: letters without a take.
        once: letters with a single take, which is trained on and therefore not measured.
        notes: what else should be known, a line each.
        refused: why the starting model stays; None if the adapted one was kept.
        checkpoint: the adapted model; None if it was not kept.
    """

    speaker: str
    takes: int
    held_out: Measured | None
    trained_on: Measured
    others: Measured | None
    mixture: float
    missing: tuple[str, ...]
    once: tuple[str, ...]
    notes: tuple[str, ...]
    refused: str | None
    checkpoint: Checkpoint | None

    def lines(self) -> list[str]:
        """Returns what was measured and what was not, a line each."""
        lines = [f"Voice: {self.speaker}, adapted to {self.takes} takes"]
        if self.missing:
            lines.append(f"Never recorded, so not adapted to: {' '.join(self.missing)}")
        if self.held_out is None:
            lines.append("This voice: not measured, because no letter has two takes, so none could be held out")
            lines.append(f"Its takes that were trained on: {self.trained_on} (no measure of new takes)")
        else:
            lines.append(f"This voice, takes that were held out: {self.held_out}")
            if self.once:
                lines.append(f"One take each, so not measured: {' '.join(self.once)}")
        if self.others is None:
            lines.append(
                "Everybody else: not measured, because no other people's letters are at hand; the weights stay close "
                "to the starting ones instead (speechmlp prepare an4 gets some)"
            )
        else:
            lines.append(f"Everybody else: {self.others}")
        return lines


def adapt(
    recordings: str | Path,
    *,
    speaker: str | None = None,
    output: str | Path | None = None,
    config: Config | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Adaptation:
    """Adapts a trained model to a voice and measures it before and after.

    Args:
        recordings: a folder `<letter>/*`, or a manifest.
        speaker: the voice, if there are several.
        output: file for the adapted model; it is written whole, and only if the model did not get worse. None to write
            nothing.
        config: how to adapt; None for the shipped configuration `adapt`.
        progress: called with the fraction done and what is being done.
        cancelled: asked after every step of training whether to stop.

    Raises:
        UserError: the recordings, the configuration or the output cannot be used; nothing is written.
        Cancelled: `cancelled` said so; nothing is written.

    Example:
        >>> adapt("recordings", output="anna.pt").held_out  # doctest: +SKIP
        Measured(count=26, before=21, after=25)
    """
    config = load_config("adapt") if config is None else config
    say = (lambda *_: None) if progress is None else progress
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise UserError(f"{Path(output).parent}: no such folder; expected an existing one for {Path(output).name}")
    if output is not None and Path(output).is_dir():
        raise UserError(f"{output}: is a folder; expected a file name, such as {output}/adapted.pt")
    if config.training.start_from is None:
        raise UserError("training.start_from: expected packaged or a checkpoint to adapt, found null")
    start = load_checkpoint(find_checkpoint(config.training.start_from))
    config = with_teacher(load_start(config.model_copy(update={"labels": start.config.labels}))[0])
    device = select_device(config.device)
    say(0.0, "reading the recordings")
    left_out = LeftOut()
    utterances = of_speaker(read_source(recordings, left_out, config.labels), speaker, str(recordings))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        voice = Voice.read(hold_out(utterances, config.training.seed), config, Path(scratch), str(recordings))
        start.model.to(device)
        takes = [part.to(device) for part in (voice.takes, voice.held_out) if part is not None]
        known = [Predictions.of(start.model, part) for part in takes]
        require_known(known, str(recordings))
        say(0.1, "reading other people's letters")
        others = Others.open(config, device)
        adapting = _Adapting(config, start, voice, others, takes, known)
        adapting.train(say, cancelled)
        found = adapting.result(utterances, (*left_out.lines(), *others.notes))
    if output is not None and found.checkpoint is not None:
        rewrite_checkpoint(Path(output), found.checkpoint)
    say(1.0, "done")
    return found


def with_teacher(config: Config) -> Config:
    """Returns the configuration with the starting model as the teacher, if it has teachers."""
    training = config.training
    if training.distill is None or training.start_from is None:
        return config
    distill = training.distill.model_copy(update={"teachers": (training.start_from,)})
    return config.model_copy(update={"training": training.model_copy(update={"distill": distill})})


@dataclass(frozen=True)
class _Candidate:
    """The starting model, or one between it and the trained one, with its predictions.

    Attributes:
        mixture: how far from the starting weights to the trained ones it is, up to 1.
        model: the classifier.
        deciding: predictions for the takes that were held out, or else for those trained on.
        others: predictions for letters of other people; None if there are none at hand.
    """

    mixture: float
    model: SpeechClassifier
    deciding: Predictions
    others: Predictions | None = None

    def cost(self, lost: int) -> tuple[int, int, float]:
        """Returns the mistakes on the takes that decide, the number of other people's letters lost, and the loss."""
        return len(self.deciding.labels) - self.deciding.right, max(0, lost), self.deciding.loss


class _Adapting:
    """A starting model, what it is adapted to, and the trained model.

    Args:
        config: how to adapt.
        start: the starting model.
        voice: what it is adapted to.
        others: letters of other people.
        takes: the voice's takes that are trained on, and those held out, if there are any, on the device.
        known: predictions of the starting model for each of `takes`.
    """

    def __init__(
        self,
        config: Config,
        start: Checkpoint,
        voice: Voice,
        others: Others,
        takes: Sequence[DeviceCorpus],
        known: Sequence[Predictions],
    ) -> None:
        self.config, self.start, self.voice, self.others = config, start, voice, others
        self.takes, self.deciding, self.known, self.device = takes[0], takes[-1], known, takes[0].device
        torch.manual_seed(config.training.seed)
        self.trained = SpeechClassifier(config).to(self.device)
        self.trained.load_state_dict(start.model.state_dict())
        self.trained.front_end.requires_grad_(False)  # what finds the letter stays
        self.average = copy.deepcopy(self.trained).eval() if config.training.ema else None
        self.trained_on = Fingerprints(one for part in (voice.takes, *others.replay) for one in part.fingerprints())
        if start.trained_on is not None:
            self.trained_on |= start.trained_on

    def train(self, progress: Progress, cancelled: Callable[[], bool]) -> None:
        """Trains; the average of weights, if there is one, is the result."""
        training = self.config.training
        parts = [self.takes, *(part.to(self.device) for part in self.others.replay)]
        corpus = DeviceCorpus.join(parts)
        sampler = Sampler(corpus.labels, [len(part) for part in parts], self.others.weights, training.balance)
        optimizer = build_optimizer(training.optimizer, self.trained.network.parameters())
        task = Task(self.trained, corpus, sampler, self.deciding, training, self.average)
        try:
            for record in train(task, optimizer, load_teachers(self.config, self.device), cancelled):
                progress(0.1 + 0.8 * record.epoch / training.epochs, f"adapting, {record.epoch} of {training.epochs}")
                if cancelled():
                    raise Cancelled
        except Interrupted as error:
            raise Cancelled from error

    def mixed(self, mixture: float) -> SpeechClassifier:
        """Returns the model between the starting weights, 0, and the trained ones, 1."""
        model = copy.deepcopy(self.start.model)
        trained = (self.trained if self.average is None else self.average).state_dict()
        model.load_state_dict(
            {
                name: torch.lerp(weight, trained[name], mixture) if weight.is_floating_point() else weight
                for name, weight in self.start.model.state_dict().items()
            }
        )
        return model

    def result(self, utterances: Sequence[Utterance], notes: tuple[str, ...]) -> Adaptation:
        """Returns the best mixture, or the reason why there is none."""
        valid, held_out = self.others.valid, self.voice.held_out is not None
        before = None if valid is None else Predictions.of(self.start.model, valid)
        start = best = _Candidate(0.0, self.start.model, self.known[-1], before)
        lowest = start.cost(0)
        refused = f"the takes {'held out' if held_out else 'trained on'} are not recognised better"
        most = 1.0 if self.others.replay and held_out else CAUTIOUS
        for mixture in (one for one in MIXTURES if one <= most):
            model, after, lost = self.mixed(mixture), None, 0
            if valid is not None and before is not None:
                after = Predictions.of(model, valid)
                lost = before.right - after.right
                if lost > WORSE * len(valid):
                    refused = f"more than {100 * WORSE:g} % of everybody else's letters would be lost"
                    continue
            candidate = _Candidate(mixture, model, Predictions.of(model, self.deciding), after)
            if candidate.cost(lost) < lowest:
                best, lowest = candidate, candidate.cost(lost)
        trained_on = best.deciding
        if held_out:
            trained_on = self.known[0] if best is start else Predictions.of(best.model, self.takes)
        counts, labels = Counter(utterance.letter for utterance in utterances), self.config.labels
        return Adaptation(
            speaker=self.voice.speaker,
            takes=len(self.takes),
            held_out=Measured.of(start.deciding, best.deciding) if held_out else None,
            trained_on=Measured.of(self.known[0], trained_on),
            others=None if before is None or best.others is None else Measured.of(before, best.others),
            mixture=best.mixture,
            missing=tuple(letter for letter in labels if letter not in counts),
            once=tuple(letter for letter in labels if counts[letter] == 1),
            notes=notes,
            refused=refused if best is start else None,
            checkpoint=None if best is start else self.checkpoint(best),
        )

    def checkpoint(self, chosen: _Candidate) -> Checkpoint:
        """Returns a model for use, with a temperature and a threshold of its own."""
        temperature, reject_below = self.start.temperature, self.start.reject_below
        logits, labels = chosen.deciding.logits, chosen.deciding.labels
        if self.voice.held_out is not None and len(labels) >= ENOUGH:
            # One voice can show that the model is too sure, but not that it may be surer about everybody else.
            temperature = max(temperature, fit_temperature(logits, labels))
            reject_below = min(reject_below, fit_reject_below(logits / temperature))
        return Checkpoint(
            self.config, chosen.model.cpu().eval(), None, [], temperature, reject_below, trained_on=self.trained_on
        )
