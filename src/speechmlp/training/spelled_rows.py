"""Running speech with known letters, from which the segment scorer is trained: spelled words, as recorded or joined.

Dimension key: `T` samples.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from speechmlp.audio.decoding import to_mono_16k
from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.corpora import an4, long
from speechmlp.corpora.forced_alignment import Alignment, align_all
from speechmlp.corpora.synthetic import ESpeak, draw_voices
from speechmlp.data.manifest import read_manifest
from speechmlp.data.spelled import read_spelled
from speechmlp.errors import UserError
from speechmlp.evaluation.joined_words import Letter, join, read_letter, tight
from speechmlp.labels import LETTERS, label_of

HOP = 160
"""Samples between frames."""
DOUBLE = len(LETTERS)
"""Label of the word double; the letters are 0 to 25."""
OTHER = -1
"""Label of other words."""
_EXAMPLES = re.findall(
    r"\w+",
    "alpha bravo delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa romeo sierra tango "
    "uniform victor whiskey yankee zulu apple boy cat dog david edward frank george mary mother nancy peter robert "
    "sam sugar tom",
)
FILLERS = (
    *("um", "uh", "er", "and", "space", "dash", "hyphen", "then", "okay", "so", "that is", "capital", "like", "yes"),
    *("first name", "last name", "my name is", "it is spelled", "full stop", "apostrophe", "underscore", "small"),
    *(f"{link} {word}" for word in _EXAMPLES for link in ("for", "as in")),
)
"""What people say between letters."""
SHORTEST_DOUBLE, LONGEST_DOUBLE = 0.12, 0.6
"""Seconds."""
CHATTER_VOICES = 36
"""Voices of eSpeak NG that say fillers and the word double."""


@dataclass(frozen=True)
class Spoken:
    """A recording, int16 [T] at 16 kHz, its letters as (start, end, label) in frames, and how often it is drawn."""

    samples: NDArray[np.int16]
    parts: list[tuple[int, int, int]]
    weight: float

    def times(self, factor: float) -> "Spoken":
        """Returns it, drawn so many times as often."""
        return replace(self, weight=self.weight * factor)


@dataclass
class Pool:
    """Recordings of single letters and other words, from which words are joined.

    Attributes:
        letters: corpus -> speaker -> label -> recordings.
        others: other words.
        doubles: the word double.
    """

    letters: list[dict[str, list[tuple[int, Letter]]]] = field(default_factory=list)
    others: list[Letter] = field(default_factory=list)
    doubles: list[Letter] = field(default_factory=list)

    def draw(
        self, seconds: float, generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], list[tuple[int, int, int]]]:
        """Returns a joined word of at least so many seconds, float32 [T], and its parts as those of `Spoken`."""
        voices = self.letters[int(generator.integers(len(self.letters)))]
        spoken = voices[list(voices)[int(generator.integers(len(voices)))]]
        longest = 0.04 if generator.random() < 0.3 else generator.uniform(0.05, 1.0)
        chosen: list[tuple[int, Letter]] = []
        pauses: list[float] = []
        length = 0.0
        while length < seconds:
            row = [spoken[int(generator.integers(len(spoken)))]]
            chance = generator.random()
            if chance < 0.12 and self.doubles and row[0][0] != label_of("U"):
                row.insert(0, (DOUBLE, self.doubles[int(generator.integers(len(self.doubles)))]))
            elif chance < 0.3 and self.others:
                row.insert(int(generator.integers(2)), (OTHER, self.others[int(generator.integers(len(self.others)))]))
            for one in row:
                chosen.append(one)
                # A word and its letter are nearer to each other than letters are.
                pauses.append(float(generator.uniform(0, longest if one is row[-1] else 0.3 * longest)))
                length += (one[1].end - one[1].start) / SAMPLE_RATE + pauses[-1]
        changed = [_louder(letter, generator) for _, letter in chosen]
        samples, ends = join(changed, pauses[:-1])
        parts = [(round(a / HOP), round(b / HOP), label) for (a, b), (label, _) in zip(ends, chosen, strict=True)]
        if generator.random() < 0.7:
            level = np.abs(samples).max() * 10 ** (-generator.uniform(25, 65) / 20)
            samples += (level * generator.standard_normal(len(samples))).astype(np.float32)
        return samples, parts


def _louder(letter: Letter, generator: np.random.Generator) -> Letter:
    """Returns a letter at another level and speed, as a tape plays it."""
    speed = float(np.exp(generator.uniform(-0.2, 0.2)))
    count = int(len(letter.samples) / speed)
    time = np.arange(count, dtype=np.float32) * speed
    samples = np.interp(time, np.arange(len(letter.samples)), letter.samples).astype(np.float32)
    samples *= 0.3 / max(1e-4, float(np.abs(samples).max())) * 10 ** (generator.uniform(-5, 5) / 20)
    return Letter(samples, int(letter.start / speed), min(count, int(letter.end / speed)))


def _spoken(found: Alignment, weight: float) -> Spoken:
    parts = [
        (round(first / HOP), round(last / HOP), label_of(word) if word in LETTERS else OTHER)
        for word, first, last in found.words
    ]
    return Spoken(found.samples, parts, len(found.samples) / SAMPLE_RATE * weight)


def read_an4(source: str | Path, workers: int | None) -> tuple[list[Spoken], list[Spoken]]:
    """Returns the utterances of AN4's training speakers and of its validation speakers.

    Raises:
        UserError: it is not AN4, or PocketSphinx is missing.
    """
    recordings, dictionary = an4.read_tree(source)
    chosen = [recording for recording in recordings if not recording.test]
    texts = [(recording.path, recording.words) for recording in chosen]
    trained_on: list[Spoken] = []
    held_out: list[Spoken] = []
    for recording, found in zip(chosen, align_all(texts, an4.read_samples, dictionary, workers), strict=True):
        if not isinstance(found, str):
            spells = any(word in LETTERS for word in recording.words)
            target = held_out if recording.split == "valid" else trained_on
            target.append(_spoken(found, 1.5 if spells else 0.5))
    return trained_on, held_out


def read_names(manifest: str | Path, workers: int | None) -> list[Spoken]:
    """Returns the training recordings of a manifest of spelled words that can be aligned with their letters.

    Raises:
        UserError: the manifest cannot be read, or PocketSphinx is missing.
    """
    words = [word for word in read_spelled(manifest, allow_outside=True) if word.split in ("train", None)]
    with tempfile.TemporaryDirectory(prefix="speechmlp-names-") as scratch:
        dictionary = Path(scratch) / "letters.dic"
        long.write_dictionary(dictionary, [])
        found = list(
            align_all([(word.path, tuple(word.text)) for word in words], long.read_samples, dictionary, workers)
        )
    return [_spoken(one, 1.0) for one in found if not isinstance(one, str)]


def read_pool(
    letters: Sequence[str | Path],
    others: Sequence[str | Path],
    names: Sequence[Spoken],
    most: int,
    seed: int,
    workers: int | None,
) -> Pool:
    """Returns single letters and other words of the training speakers of manifests, and what eSpeak NG says.

    Args:
        letters: manifests of letters.
        others: manifests of non-letters.
        names: aligned recordings, whose letters are used too.
        most: largest number of recordings of each manifest.
        seed: of the choice among them, and of the voices.
        workers: aligning processes; None for one per core.

    Raises:
        UserError: a manifest cannot be read.
    """
    generator = np.random.default_rng(seed)
    pool = Pool()
    for manifest in letters:
        voices: dict[str, list[tuple[int, Letter]]] = defaultdict(list)
        for speaker, one in _read(manifest, True, most, generator):
            voices[speaker].append(one)
        pool.letters.append(dict(voices))
    if names:
        pool.letters.append({str(number): _cut_out(one) for number, one in enumerate(names) if one.parts})
    for manifest in others:
        pool.others += [word for _, (_, word) in _read(manifest, False, most, generator)]
    spoken, doubles = _chatter(seed)
    pool.others += spoken
    pool.doubles += [*doubles, *_beginnings_of_w(letters, workers)]
    return pool


def _beginnings_of_w(manifests: Sequence[str | Path], workers: int | None) -> list[Letter]:
    """Returns the word double out of recordings of W, whose name is double u."""
    paths = [
        (one.path, ("DOUBLE", "U"))
        for manifest in manifests
        for one in read_manifest(manifest, allow_shared=True, allow_outside=True)
        if one.letter == "W" and one.split in ("train", None) and one.start is None
    ]
    with tempfile.TemporaryDirectory(prefix="speechmlp-double-") as scratch:
        dictionary = Path(scratch) / "double.dic"
        dictionary.write_text("DOUBLE D AH B AH L\nU Y UW\n", encoding="ascii")
        found = list(align_all(paths, long.read_samples, dictionary, workers))
    doubles = []
    for one in found:
        if not isinstance(one, str):
            _, first, last = one.words[0]
            doubles.append(Letter(one.samples[first:last].astype(np.float32) / FULL_SCALE, 0, last - first))
    return [one for one in doubles if SHORTEST_DOUBLE <= one.end / SAMPLE_RATE <= LONGEST_DOUBLE]


def _read(
    manifest: str | Path, letters: bool, most: int, generator: np.random.Generator
) -> list[tuple[str, tuple[int, Letter]]]:
    utterances = read_manifest(manifest, letters, allow_shared=True, allow_outside=True)
    chosen = [one for one in utterances if one.split in ("train", None)]
    drawn = sorted(generator.permutation(len(chosen))[:most].tolist())
    found = []
    for index in tqdm(drawn, f"reading {Path(manifest).parent.name}", disable=None):
        one = chosen[index]
        try:
            letter = read_letter(one)
        except UserError:
            continue
        if letter.end - letter.start < 2 * SAMPLE_RATE:
            found.append((one.speaker, (label_of(one.letter) if letters else OTHER, letter)))
    return found


def _cut_out(one: Spoken) -> list[tuple[int, Letter]]:
    row = one.samples.astype(np.float32) / FULL_SCALE
    return [
        (label, Letter(row[start * HOP : end * HOP], 0, (end - start) * HOP))
        for start, end, label in one.parts
        if label >= 0 and end - start > 4
    ]


def _chatter(seed: int) -> tuple[list[Letter], list[Letter]]:
    """Returns fillers and the word double, spoken by eSpeak NG."""
    speech = ESpeak()
    generator = np.random.default_rng(seed)
    others: list[Letter] = []
    doubles: list[Letter] = []
    for voice, _ in tqdm(draw_voices(CHATTER_VOICES, seed), "speaking", disable=None):
        speech.choose(voice)
        texts = [FILLERS[index] for index in generator.permutation(len(FILLERS))[:30]]
        for text in (*texts, "double", "double"):
            samples = speech.say(text, voice.pitch, int(generator.integers(110, 230)))
            mono = to_mono_16k(torch.from_numpy(samples.astype(np.float32) / FULL_SCALE)[None], speech.sample_rate)
            (doubles if text == "double" else others).append(Letter(mono.numpy(), *tight(mono)))
    return others, doubles
