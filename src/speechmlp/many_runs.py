"""Several runs of training in one process, their models learning together."""

import copy
import sys
import time
from collections.abc import Sequence

from speechmlp.checkpoint import save_checkpoint
from speechmlp.engine import ALONE
from speechmlp.errors import UserError
from speechmlp.history import EpochRecord
from speechmlp.interruption import Interruption
from speechmlp.models import SpeechClassifier
from speechmlp.runlog import BEST
from speechmlp.stack import MemberWatch, StackedStep, StackWatch, train_stack
from speechmlp.start import Start
from speechmlp.step import Update
from speechmlp.training_loop import course
from speechmlp.training_run import TrainingRun
from speechmlp.watch import NonFiniteError


class Member(TrainingRun):
    """One of several runs that learn together; saved now and then, because many models learn faster than they write."""

    SAVE_EVERY = 10.0
    """Seconds."""

    def __init__(self, start: Start, beside: TrainingRun | None) -> None:
        """Opens what is not shared with another one, and makes the folder of a new run.

        Args:
            start: where training starts.
            beside: another member.

        Raises:
            UserError: something in the configuration, the corpora, the checkpoint or the folder is wrong.
        """
        super().__init__(start, "", ALONE, beside)
        if self.partial is not None:
            raise UserError(
                f"{self.run}: it was interrupted within an epoch; go on alone, with python -m speechmlp.train --resume"
            )
        self._before_lines = f"{self.run.name}: "
        self._best: tuple[SpeechClassifier, list[EpochRecord]] | None = None  # not written yet
        self._due = time.monotonic() + self.SAVE_EVERY
        if self.board is not None:
            self.board.open(self.run, len(self.history))

    def _write(self, record: EpochRecord) -> list[str]:
        if record.best:
            self._best = copy.deepcopy(self.used), list(self.history)
        if record.stop is None and time.monotonic() < self._due:
            return []
        self._due = time.monotonic() + self.SAVE_EVERY
        if self._best is not None:
            save_checkpoint(self.run / BEST, self.config, *self._best)
            self._best = None
        return self._write_rest(record)


def finish_together(starts: Sequence[Start], interruption: Interruption) -> int:
    """Trains several runs until each has a reason to stop, or until they are interrupted; returns the exit status.

    Interrupted runs go on from their last save.

    Args:
        starts: where each starts; `require_together` holds for their configurations.
        interruption: tells when to end.

    Raises:
        UserError: numbers of some are not finite any more, and the others are finished; or a file cannot be written.
    """
    runs: list[Member] = []
    for start in starts:
        runs.append(Member(start, runs[0] if runs else None))
    runs[0].tell()
    updates = [Update(run.model, run.average, run.config.training, run.optimizer) for run in runs]
    watch = StackWatch(len(runs), runs[0].device)

    def make(members: Sequence[int]) -> StackedStep:
        training = runs[0].config.training
        return StackedStep([updates[member] for member in members], members, watch, training, runs[0].teachers)

    courses = [course(run.task(), MemberWatch(watch, number), bar=False) for number, run in enumerate(runs)]
    problems: list[str] = []
    interruption.wait()
    for member, found in train_stack(courses, make, runs[0].corpora.corpus, interruption):
        if isinstance(found, EpochRecord):
            runs[member].history.append(found)
            runs[member].keep(found)
        elif isinstance(found, NonFiniteError):
            problems += runs[member].told(found).problems
        else:
            problems += [f"{runs[member].run.name}: {problem}" for problem in found.problems]
    if interruption() and not all(run.history and run.history[-1].stop for run in runs):
        print("interrupted; go on from what was saved last with the same command and --continue", file=sys.stderr)
        return 128 + (interruption.number or 0)
    if problems:
        raise UserError(*problems)
    return 0
