"""Forced alignment of recordings with their transcripts, by PocketSphinx (extra `align`)."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.errors import UserError

FRAMES_PER_SECOND = 100
"""Frame rate of PocketSphinx's alignment."""

PAUSE = "<sil>"
"""PocketSphinx's name for silence between words."""
Segment = tuple[str, int, int]
"""A word, its first sample, and its last sample (exclusive)."""
ReadSamples = Callable[[Path], NDArray[np.int16]]
"""Returns a recording, int16 [T] at 16 kHz; it must be picklable, for the worker processes."""


@dataclass(frozen=True)
class Alignment:
    """A recording, int16 [T] at 16 kHz, and the segments of its words and pauses.

    The score is the logarithm of the likelihood, to compare the alignments of one recording with several texts.
    """

    samples: NDArray[np.int16]
    segments: list[Segment]
    score: float

    @property
    def words(self) -> list[Segment]:
        """The segments without the pauses."""
        return [segment for segment in self.segments if segment[0] != PAUSE]


_decoder: Any = None
"""One per worker process: loading the acoustic model takes longer than aligning an utterance."""


def require_pocketsphinx() -> None:
    """Checks that PocketSphinx is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import pocketsphinx  # noqa: F401
    except ImportError as error:
        raise UserError(
            "cutting letters needs PocketSphinx: python -m pip install 'pocketsphinx<5.1' (it needs a C compiler on "
            "Python 3.14 and on Linux on ARM)"
        ) from error


def _start_worker(dictionary: str) -> None:
    global _decoder
    import pocketsphinx

    model = pocketsphinx.get_model_path("en-us/en-us")
    # Batch mean normalisation: with the live one an alignment depends on earlier utterances. The best-path search over
    # the word lattice finds no path in 16 of AN4's 1078 utterances; the first pass alone aligns them all.
    _decoder = pocketsphinx.Decoder(hmm=model, dict=dictionary, lm=None, cmn="batch", bestpath=False, loglevel="FATAL")


def _align(path: Path, words: tuple[str, ...], read: ReadSamples) -> Alignment | str:
    """Returns the alignment, or the reason for failure."""
    try:
        samples = read(path)
        _decoder.set_align_text(" ".join(words))
        _decoder.start_utt()
        _decoder.process_raw(samples.tobytes(), full_utt=True)
        _decoder.end_utt()
        segments = [
            (
                re.sub(r"\(\d+\)$", "", segment.word),
                segment.start_frame * SAMPLE_RATE // FRAMES_PER_SECOND,
                (segment.end_frame + 1) * SAMPLE_RATE // FRAMES_PER_SECOND,
            )
            for segment in _decoder.seg() or ()
        ]
    except (UserError, RuntimeError, ValueError) as error:
        return str(error)
    if tuple(word for word, _, _ in segments if word in words) != words:
        return f"no alignment of {' '.join(words)!r}"
    kept = [segment for segment in segments if segment[0] in (*words, PAUSE)]
    return Alignment(samples, kept, float(_decoder.hyp().best_score))


def align_all(
    recordings: Sequence[tuple[Path, tuple[str, ...]]], read: ReadSamples, dictionary: Path, workers: int | None
) -> Iterator[Alignment | str]:
    """Yields the alignment of each recording, or the reason for failure, in order.

    Args:
        recordings: files and their words, spelled as in the dictionary.
        read: reads a file.
        dictionary: pronunciations in the format of the CMU dictionary, one per line.
        workers: number of processes; None for one per core.

    Raises:
        UserError: PocketSphinx is missing, a process died, or `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f"expected 1 or more workers, found {workers}")
    require_pocketsphinx()
    with ProcessPoolExecutor(
        workers or os.cpu_count(), get_context("spawn"), initializer=_start_worker, initargs=(str(dictionary),)
    ) as pool:
        paths, texts = [path for path, _ in recordings], [words for _, words in recordings]
        aligned = pool.map(_align, paths, texts, [read] * len(paths), chunksize=16)
        try:
            yield from tqdm(aligned, "aligning", len(recordings), unit=" utterances", disable=None)
        except BrokenProcessPool as error:
            raise UserError("an alignment process died; run the command again with --workers 1") from error
