"""Alphanumeric Audio Dataset (Sakshee Patil, 2024; MIT): 70 people, most of them Indian, spell a name and say a number.

Names are aligned letter by letter, as for AN4, in the ways that people spell: first or last name first, with the name
said before, "space" between the names, or "double L". The alignment whose letters a trained model finds most probable
is taken, and doubtful letters are left out. The digits of the numbers are non-letters, or labels too if wanted.
"""

import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.corpora.alphanumeric_tree import KINDS, Speaker, read_tree
from speechmlp.corpora.files import (
    MANIFEST,
    NEGATIVES,
    download,
    new_corpus,
    require_apart,
    unpack,
)
from speechmlp.corpora.forced_alignment import Alignment, Segment, align_all, require_pocketsphinx
from speechmlp.corpora.judging import (
    LEFT_OUT,
    SECONDS,
    Judge,
    LeftOut,
    Verdict,
    judge_letters,
    require_some,
    write_left_out,
)
from speechmlp.corpora.long import read_samples, write_dictionary
from speechmlp.corpora.pronunciations import phones_of
from speechmlp.corpora.spellings import DIGITS, numbers, spellings, text_of
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.errors import UserError
from speechmlp.files import write_text
from speechmlp.labels import LETTERS, NOT_A_LETTER, SETS

COMMIT = "217f0b477b1eadcdb14fb2fa9cb048b320406c23"
URL = f"https://github.com/Sakshee5/alphanumeric-audio-dataset/archive/{COMMIT}.tar.gz"
PEOPLE = 70
NAMES = "names.tsv"
"""Whole recordings of spelled names."""

FEWEST_DIGITS = 4
"""A shorter transcript is not the number that was said."""
CERTAIN = (5, 0.7)
"""A name is kept if this fraction of its letters is among this many of the model's first letters."""
MARGIN = 0.0
"""Seconds; in fluent spelling the next letter begins at once."""


@dataclass(frozen=True)
class Summary:
    """Result of the preparation."""

    utterances: list[Utterance]
    names: int
    digits: int
    people: int
    left_out: list[LeftOut]
    missing: list[str]
    digits_are: str = "non-letters"

    def lines(self) -> list[str]:
        """Returns the counts as text."""
        splits = Counter(utterance.split for utterance in self.utterances)
        speakers = {utterance.speaker: utterance.groups.get("accent", "") for utterance in self.utterances}
        accents = Counter(speakers.values())
        lines = [
            f"Alphanumeric: {len(self.utterances)} letters of {len(speakers)} speakers from {self.names} names",
            ", ".join(f"{split}: {splits[split]}" for split in ("train", "valid", "test")),
            "speakers: " + ", ".join(f"{count} {accent}" for accent, count in accents.most_common()),
            f"{self.digits_are}: {self.digits} digits",
            f"left out: {len(self.left_out)} letters, names and numbers, listed in {LEFT_OUT}",
        ]
        if self.missing:
            lines.append(f"warning: {len(self.missing)} recordings are missing: {', '.join(self.missing[:5])}")
        if self.people != PEOPLE:
            lines.append(f"warning: the whole corpus has {PEOPLE} people, found {self.people}")
        return lines


@dataclass(frozen=True)
class _Spelled:
    """The best alignment of a name: the letters with their samples, and the verdicts on them."""

    text: str
    letters: tuple[Segment, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def score(self) -> float:
        return sum(verdict.log_probability for verdict in self.verdicts) / len(self.verdicts)

    @property
    def certain(self) -> bool:
        first, fraction = CERTAIN
        good = [verdict.rank <= first and not verdict.reason for verdict in self.verdicts]
        return sum(good) >= fraction * len(good)


def _align(
    files: Mapping[str, Path],
    ways: Mapping[str, Sequence[tuple[str, ...]]],
    scratch: Path,
    accents: bool,
    workers: int | None,
) -> dict[str, list[Alignment]]:
    """Returns the alignments of each recording with its texts."""
    dictionary = scratch / f"words{accents:d}.dic"
    words = {word for texts in ways.values() for text in texts for word in text}
    unknown = write_dictionary(dictionary, sorted(words), accents)
    with dictionary.open("a", encoding="utf-8") as file:
        file.writelines(f"{word} {phones_of(word)}\n" for word in sorted(unknown))
    texts = [(name, text) for name in files for text in ways[name]]
    found: dict[str, list[Alignment]] = {name: [] for name in files}
    aligned = align_all([(files[name], text) for name, text in texts], read_samples, dictionary, workers)
    for (name, _), result in zip(texts, aligned, strict=True):
        if isinstance(result, Alignment):
            found[name].append(result)
    return found


class _Corpus:
    """The corpus while it is made: what is kept and what is left out."""

    def __init__(self, folder: Path, judge: Judge, digits: bool) -> None:
        self.folder, self.judge, self.digits_are_labels = folder, judge, digits
        self.letters: list[Utterance] = []
        self.digits: list[Utterance] = []
        self.names: list[tuple[Path, str, Speaker]] = []
        self.left_out: list[LeftOut] = []

    def skip(self, path: Path, label: str, speaker: Speaker, reason: str, span: tuple[float, float]) -> None:
        name = path.relative_to(self.folder).as_posix()
        self.left_out.append(LeftOut(name, label, speaker.id, *span, reason))

    def add_name(self, speaker: Speaker, path: Path, alignments: Sequence[Alignment]) -> None:
        """Adds the letters of a name, from its most probable alignment."""
        found = []
        for alignment in alignments:
            letters = tuple(segment for segment in alignment.words if segment[0] in LETTERS)
            text = text_of([word for word, _, _ in alignment.words])
            found.append(_Spelled(text, letters, judge_letters(alignment.samples, letters, self.judge)))
        best = max(found, key=lambda spelled: spelled.score, default=None)
        seconds = soundfile.info(path).duration
        if best is None or not best.certain:
            reason = "cannot be aligned; is it spelled?" if best is None else "most of its letters are not recognised"
            self.skip(path, speaker.name, speaker, reason, (0, seconds))
            return
        self.names.append((path, best.text, speaker))
        for (letter, first, last), verdict in zip(best.letters, best.verdicts, strict=True):
            span = (first / SAMPLE_RATE, last / SAMPLE_RATE)
            if verdict.reason:
                self.skip(path, letter, speaker, verdict.reason, span)
            else:
                self.letters.append(self._utterance(path, letter, speaker, span, speaker.groups))

    def add_number(self, speaker: Speaker, path: Path, alignments: Sequence[Alignment]) -> None:
        """Adds the digits of a number, from its most probable alignment."""
        seconds = soundfile.info(path).duration
        best = max(alignments, key=lambda alignment: alignment.score, default=None)
        words = [] if best is None else [segment for segment in best.words if segment[0] in (*DIGITS, "oh")]
        if not words:
            self.skip(path, speaker.number, speaker, "cannot be aligned", (0, seconds))
        for word, first, last in words:
            span = (first / SAMPLE_RATE, last / SAMPLE_RATE)
            if word == "oh":
                self.skip(path, "0", speaker, "is the letter O", span)
            elif not SECONDS[0] <= span[1] - span[0] <= SECONDS[1]:
                self.skip(path, str(DIGITS.index(word)), speaker, f"{span[1] - span[0]:.2f} s long", span)
            else:
                digit = str(DIGITS.index(word))
                label = digit if self.digits_are_labels else NOT_A_LETTER
                groups = speaker.groups if self.digits_are_labels else {**speaker.groups, "digit": digit}
                self.digits.append(self._utterance(path, label, speaker, span, groups))

    def _utterance(
        self, path: Path, letter: str, speaker: Speaker, span: tuple[float, float], groups: Mapping[str, str]
    ) -> Utterance:
        return Utterance(path, letter, speaker.id, speaker.split, *span, speaker.gender, MARGIN, groups)

    def write(self) -> None:
        """Writes the manifests."""
        write_manifest(self.folder / MANIFEST, [*self.letters, *(self.digits if self.digits_are_labels else ())])
        if self.digits and not self.digits_are_labels:
            write_manifest(self.folder / NEGATIVES, self.digits)
        columns = ("path", "text", "speaker", "split", "gender", "accent")
        rows = [
            (path.relative_to(self.folder).as_posix(), text, who.id, who.split, who.gender or "", who.groups["accent"])
            for path, text, who in self.names
        ]
        write_text(self.folder / NAMES, "".join("\t".join(row) + "\n" for row in (columns, *rows)))
        write_left_out(self.folder / LEFT_OUT, self.left_out)


def _cut(folder: Path, speakers: Sequence[Speaker], judge: Judge, workers: int | None, digits: bool) -> _Corpus:
    corpus = _Corpus(folder, judge, digits)
    files: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS}
    for speaker in speakers:
        for kind, recording in speaker.recordings.items():
            path = folder / "wav" / kind.lower() / f"{speaker.id}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                soundfile.write(path, read_samples(recording), SAMPLE_RATE, subtype="PCM_16")
                files[kind][speaker.id] = path
            except UserError as error:
                corpus.skip(path, "", speaker, str(error).removeprefix(f"{recording}: "), (0, 0))
    by_id = {speaker.id: speaker for speaker in speakers}
    names = {name: spellings(by_id[name].name) for name in files["Names"]}
    said = {name: numbers(by_id[name].number) for name in files["Numbers"]}
    said = {name: ways for name, ways in said.items() if len(ways[0]) >= FEWEST_DIGITS}
    with tempfile.TemporaryDirectory(prefix="speechmlp-alphanumeric-") as scratch:
        plain = _align(files["Names"], names, Path(scratch), False, workers)
        accented = _align(files["Names"], names, Path(scratch), True, workers)
        said_as = _align({name: files["Numbers"][name] for name in said}, said, Path(scratch), False, workers)
    for name, path in files["Names"].items():
        corpus.add_name(by_id[name], path, [*plain[name], *accented[name]])
    for name, path in files["Numbers"].items():
        corpus.add_number(by_id[name], path, said_as.get(name, []))
    return corpus


def _require_commit(archive: Path) -> None:
    """Checks that an archive of the public address is that of `COMMIT`.

    The address publishes no checksum, and the bytes of its archives may change; each contains its commit's hash.

    Raises:
        UserError: it is not.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.next()
            found = tar.pax_headers.get("comment")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{archive}: cannot be read as a tar archive ({error})") from error
    if found != COMMIT:
        raise UserError(f"{URL}: expected the archive of commit {COMMIT}, found {found or 'another file'}")


def prepare_alphanumeric(
    source: str | Path | None, output: str | Path, judge: Judge, workers: int | None = None, *, digits: bool = False
) -> Summary:
    """Cuts spelled names into letters and numbers into digits, and writes manifests.

    Args:
        source: the folder of the corpus, or a tar archive of it; None to download it.
        output: folder of the corpus; an earlier corpus in it is replaced.
        judge: the model that decides which letters are kept.
        workers: number of processes; None for one per core.
        digits: whether digits are labels, and not non-letters.

    Raises:
        UserError: the source is not this corpus, nothing can be aligned, PocketSphinx is missing, or the folder cannot
            be written.
    """
    require_pocketsphinx()  # before the download
    if source is not None:
        require_apart(source, output)
    with new_corpus(output) as folder, tempfile.TemporaryDirectory(prefix="speechmlp-alphanumeric-") as scratch:
        if source is None:
            # Next to the corpus, so that an interrupted download can continue.
            arriving = Path(output).with_name(f"{Path(output).name}.download")
            download(URL, arriving)
            source = Path(scratch) / "alphanumeric.tar.gz"
            shutil.move(arriving, source)
            _require_commit(source)
        if not Path(source).exists():
            raise UserError(f"{source}: no such file or folder; expected the Alphanumeric Audio Dataset")
        if not Path(source).is_dir():
            unpack(source, Path(scratch) / "tree")
            source = Path(scratch) / "tree"
        speakers, missing = read_tree(source)
        corpus = _cut(folder, speakers, judge, workers, digits)
        require_some(len(corpus.letters), source, corpus.left_out)
        corpus.write()
    written = read_manifest(Path(output) / MANIFEST, labels=SETS["alphanumeric"])
    letters = [one for one in written if one.letter in LETTERS]
    digits_are = "labels" if digits else "non-letters"
    left_out = corpus.left_out
    return Summary(letters, len(corpus.names), len(corpus.digits), len(speakers), left_out, missing, digits_are)
