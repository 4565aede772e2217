"""The model that answers, and its adaptation to a voice: takes that the page records, and the adapted model."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from starlette.exceptions import HTTPException

from speechmlp.audio.channels import mix
from speechmlp.audio.decoding import load
from speechmlp.audio_format import FULL_SCALE
from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.corpora.folder import read_folder
from speechmlp.corpora.takes import AGAIN, find_problems, require_folder_names, take_path, write_take
from speechmlp.errors import UserError, out_of_memory
from speechmlp.labels import find_label, one_of
from speechmlp.recognition.recognizer import Recognizer, Second
from speechmlp.recognition.speller import Speller
from speechmlp.runs.checkpoint import load_checkpoint
from speechmlp.training.adapting import Cancelled, adapt
from speechmlp.training.voice import FEWEST

RECORDINGS, ADAPTED, UNUSED = "recordings", "adapted.pt", "unused.pt"
"""In the folder: the takes, the adapted model that answers, or the one that does not."""
SPEAKER = "me"
WANTED = 3
"""Number of takes of each letter that the page asks for."""
MOST = 20
"""Most takes of a letter."""
MAX_SECONDS = 10.0
"""Longest take."""
MAX_SAMPLES = int(MAX_SECONDS * 192_000)
"""Most samples of all channels of a take."""
SUFFIX = ", adapted to your voice"


class Models:
    """The model that answers; safe to share between threads.

    Attributes:
        original: the model that the server was started with.
        speller: the model that answers.
        name: its name.
    """

    def __init__(self, speller: Speller, name: str) -> None:
        self.original = self.speller = speller
        self._original_name = self.name = name

    def use(self, speller: Speller) -> None:
        """Lets another model answer, with the judge of the original one."""
        speller.recognizer.judge = self.original.recognizer.judge
        self.speller, self.name = speller, self._original_name + SUFFIX

    def use_original(self) -> None:
        """Lets the original model answer again."""
        self.speller, self.name = self.original, self._original_name


class Voice:
    """A voice that the model is adapted to; safe to share between threads.

    Args:
        folder: of the takes and of the adapted model.
        models: the model that answers.
        start: the model to adapt, packaged or a checkpoint, which `models` has.

    Attributes:
        warning: why an earlier adapted model is not used; empty if it is, or if there is none.

    Raises:
        UserError: the folder cannot be made, or labels of the model cannot be names of folders.
    """

    def __init__(self, folder: Path, models: Models, start: str) -> None:
        self._folder, self._models, self._start = folder.absolute(), models, start
        self._labels = models.original.recognizer.labels
        require_folder_names(self._labels, "labels")
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._doing, self._fraction = "", 0.0
        self._lines: list[str] = []
        self._error = ""
        self.warning = ""
        try:
            self._recordings.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--voice {folder}: cannot be made: {error.strerror or error}") from error
        if self._adapted.exists():
            try:
                models.use(self._load())
            except UserError as error:
                self.warning = f"{error}; the original model answers"

    @property
    def _recordings(self) -> Path:
        return self._folder / RECORDINGS

    @property
    def _adapted(self) -> Path:
        return self._folder / ADAPTED

    @property
    def _unused(self) -> Path:
        return self._folder / UNUSED

    def _load(self) -> Speller:
        """Returns the adapted model.

        Raises:
            UserError: it cannot be loaded, or has other labels than the original one.
        """
        checkpoint = load_checkpoint(self._adapted)
        if checkpoint.config.labels != self._labels:
            raise UserError(f"{self._adapted}: expected the labels of the original model, found other ones")
        original = self._models.original
        return Speller(Recognizer(checkpoint, original.recognizer.device), original.scorer)

    def _takes(self) -> Counter[str]:
        """Returns how many takes there are of each letter."""
        try:
            return Counter(one.letter for one in read_folder(self._recordings, labels=self._labels))
        except UserError:  # there are none
            return Counter()

    def state(self) -> dict[str, Any]:
        """Returns the takes and the state of the adaptation, as values for JSON."""
        counts = self._takes()
        with self._lock:
            return {
                "folder": str(self._folder),
                "takes": {label: counts[label] for label in self._labels},
                "wanted": WANTED,
                "fewest": FEWEST,
                "adapting": self._is_adapting(),
                "doing": self._doing,
                "fraction": round(self._fraction, 3),
                "lines": self._lines,
                "error": self._error,
                "adapted": self._adapted.exists() or self._unused.exists(),
                "used": self._models.speller is not self._models.original,
            }

    def take(self, path: Path, name: str, letter: str) -> dict[str, Any]:
        """Keeps a take, if it is good enough, and returns what is wrong with it and what the model recognises.

        Args:
            path: of the recording.
            name: of the recording, for messages.
            letter: that was asked for.

        Raises:
            UserError: the recording cannot be decoded.
            HTTPException: there is no such letter, there are enough takes of it, or it cannot be stored.
        """
        del name
        label = self._label(letter)
        waveform, rate = load(path, max_seconds=MAX_SECONDS, max_values=MAX_SAMPLES)
        problems = find_problems(waveform, rate)
        kept = not any(kind in AGAIN for kind, _ in problems)
        heard = None
        if kept:
            mixed, recognizer = mix(waveform, rate), self._models.original.recognizer
            (found,) = recognizer.recognize([Second.of(mixed, recognizer.audio)], judged=False)
            heard = found.letter
            with self._lock:
                self._write(label, mixed.waveform, rate)
        return {"kept": kept, "advice": [advice for _, advice in problems], "heard": heard, "voice": self.state()}

    def _label(self, letter: str) -> str:
        label = find_label(letter, self._labels)
        if label is None:
            raise HTTPException(422, f"letter: expected {one_of(self._labels)}, found {letter[:40]!r}")
        return self._labels[label]

    def _numbers(self, label: str) -> list[int]:
        """Returns the numbers of the takes of a letter that were recorded here, in order."""
        paths = take_path(self._recordings, label, SPEAKER, 0).parent.glob(f"{SPEAKER}_nohash_*.wav")
        return sorted(int(number) for path in paths if (number := path.stem.rpartition("_")[2]).isdecimal())

    def _write(self, label: str, mono: torch.Tensor, rate: int) -> None:
        numbers = self._numbers(label)
        if len(numbers) >= MOST:
            raise HTTPException(422, f"letter: expected at most {MOST} takes of {label}, found {len(numbers)}")
        try:
            samples = (mono * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1).short()
            path = take_path(self._recordings, label, SPEAKER, numbers[-1] + 1 if numbers else 0)
            write_take(path, samples.numpy(), rate)
        except OSError as error:
            raise HTTPException(507, f"the take cannot be stored: {error.strerror or error}") from error

    def remove(self, letter: str) -> dict[str, Any]:
        """Removes the last take of a letter; returns the state.

        Raises:
            HTTPException: there is no such letter or no take of it, or the takes are in use.
        """
        label = self._label(letter)
        with self._lock:
            if self._is_adapting():
                raise HTTPException(409, "voice: the takes are being used; wait until the model is adapted, or stop it")
            if not (numbers := self._numbers(label)):
                raise HTTPException(422, f"letter: there is no take of {label}")
            try:
                take_path(self._recordings, label, SPEAKER, numbers[-1]).unlink(missing_ok=True)
            except OSError as error:
                raise HTTPException(507, f"the take cannot be removed: {error.strerror or error}") from error
        return self.state()

    def adapt(self) -> dict[str, Any]:
        """Begins to adapt the original model to all takes; returns the state.

        Raises:
            HTTPException: the model is being adapted already, or there are too few takes.
        """
        letters = len(self._takes())
        if letters < FEWEST:
            raise HTTPException(422, f"voice: expected takes of {FEWEST} letters or more, found {letters}; record more")
        with self._lock:
            if self._is_adapting():
                raise HTTPException(409, "voice: the model is being adapted already; wait, or stop it")
            self._cancelled.clear()
            self._lines, self._error, self._doing, self._fraction = [], "", "starting", 0.0
            self._thread = threading.Thread(target=self._adapt, name="speechmlp adapt", daemon=True)
            self._thread.start()
        return self.state()

    def _is_adapting(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and bool(self._doing)

    def _adapt(self) -> None:
        try:
            found = adapt(
                self._recordings,
                output=self._adapted,
                config=self._config(),
                progress=self._show,
                cancelled=self._cancelled.is_set,
            )
            lines = found.lines()
            if found.refused is None:
                self._unused.unlink(missing_ok=True)
                self._models.use(self._load())
                lines.append("The adapted model answers from now on.")
            else:
                lines.append(f"Not kept: {found.refused}. The model that answered before still does.")
            self._end(lines)
        except Cancelled:
            self._end([], "Stopped; the model that answered before still does.")
        except UserError as error:
            self._end([], "; ".join(error.problems[:3]).replace(f"{self._recordings}: ", ""))
        except Exception as error:
            reason = out_of_memory(error) or (error.strerror if isinstance(error, OSError) else None)
            self._end([], f"The model could not be adapted: {reason or 'internal error'}.")
            if reason is None:
                raise

    def _config(self) -> Config:
        config = load_config("adapt")
        training = config.training.model_copy(update={"start_from": self._start})
        device = str(self._models.original.recognizer.device)
        return config.model_copy(update={"training": training, "device": device})

    def _show(self, fraction: float, doing: str) -> None:
        with self._lock:
            self._fraction, self._doing = fraction, doing

    def _end(self, lines: list[str], error: str = "") -> None:
        with self._lock:
            self._doing, self._lines, self._error = "", lines, error

    def stop(self) -> dict[str, Any]:
        """Asks a running adaptation to stop without a result; returns the state."""
        self._cancelled.set()
        return self.state()

    def close(self) -> None:
        """Stops a running adaptation, so that its temporary files are removed."""
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join(10)

    def use(self, adapted: bool) -> dict[str, Any]:
        """Lets the adapted model answer, or the original one, also after the next start; returns the state.

        Raises:
            HTTPException: there is no adapted model, it cannot be loaded, or a new one is being made.
        """
        with self._lock:
            if self._is_adapting():
                raise HTTPException(409, "voice: the model is being adapted; wait, or stop it")
            before, after = (self._unused, self._adapted) if adapted else (self._adapted, self._unused)
            try:
                if before.exists():
                    before.replace(after)
                elif not after.exists():
                    raise HTTPException(422, "voice: no model has been adapted yet")
                if adapted:
                    self._models.use(self._load())
                else:
                    self._models.use_original()
            except OSError as error:
                raise HTTPException(507, f"{after}: cannot be written: {error.strerror or error}") from error
            except UserError as error:
                raise HTTPException(422, str(error)) from error
        return self.state()
