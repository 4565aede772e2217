"""ISOLET 1.3 (LDC2008S07; Cole, Muthusamy & Fanty, 1990): 150 people, each letter of the alphabet twice, 16 kHz.

Published protocol: training on isolet1 to isolet4, test on isolet5. Five-fold cross-validation tests each part in
turn. The `.adc` files of the 1990 disc are converted to WAV; recordings of later releases stay in place.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from speechmlp.audio.encoding import wav_bytes
from speechmlp.corpora.files import MANIFEST, new_corpus, require_apart
from speechmlp.corpora.published import Findings, Key, check_headers, find_recordings
from speechmlp.data.manifest import GENDERS, Split, Utterance, read_manifest, write_manifest
from speechmlp.data.splits import deal, split_counts
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

PARTS = ("1", "2", "3", "4", "5")
TEST_PART = "5"
SPEAKERS = 150
TAKES = ("1", "2")
VALID_PARTS = 10
"""One of this many training speakers is for validation."""
EXPECTED = "ISOLET, with recordings like isolet1/fcmc0/fcmc0-A1-t.wav (or .adc)"
_NAME = re.compile(r"([fm][a-z]+\d)-([a-z])([12])-t\.(wav|adc)", re.IGNORECASE)
_PART = re.compile(r"isolet[ _-]?([1-5])", re.IGNORECASE)
_HEADER = struct.Struct(">hhhhii")
"""Header of `.adc` files: words in the header, version, channels, sample period, samples, byte order mark."""


@dataclass(frozen=True)
class Summary:
    """Result of the preparation."""

    utterances: list[Utterance]
    findings: Findings

    def lines(self) -> list[str]:
        """Returns the counts as text."""
        speakers = {utterance.speaker for utterance in self.utterances}
        whole = SPEAKERS * len(LETTERS) * len(TAKES)
        return [
            f"ISOLET: {len(self.utterances)} letters of {len(speakers)} speakers",
            split_counts(self.utterances),
            *([f"warning: the whole corpus has {SPEAKERS} speakers"] if len(speakers) != SPEAKERS else []),
            *self.findings.lines(whole),
        ]


def read_adc(path: Path) -> tuple[NDArray[np.int16], int]:
    """Returns the samples, int16 [T], and the rate in Hz of a recording of the 1990 disc.

    The file is big-endian: 16 bytes of header, then the samples. The sample period is in quarters of a microsecond.

    Raises:
        UserError: the file does not fit its header.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        raise UserError(f"{path}: expected 16 bytes of header, found {len(data)} bytes in all")
    words, _, channels, period, count, _ = _HEADER.unpack_from(data)
    if words != _HEADER.size // 2 or channels != 1 or period <= 0 or count < 1:
        raise UserError(
            f"{path}: expected an ISOLET header (8 words, 1 channel, a sample period), "
            f"found {words} words, {channels} channels, period {period}, {count} samples"
        )
    samples = np.frombuffer(data, ">i2", offset=_HEADER.size, count=(len(data) - _HEADER.size) // 2)
    if len(samples) < count:
        raise UserError(f"{path}: ends after {len(samples)} of {count} samples")
    return samples[:count].astype(np.int16), round(4_000_000 / period)


def _key(path: Path, match: re.Match[str]) -> Key | None:
    parts = [found[1] for folder in path.parts[:-1] if (found := _PART.fullmatch(folder))]
    return (parts[-1], match[1].lower(), match[2].upper(), match[3]) if parts else None


def _splits(part_of: dict[str, str], test_part: str) -> dict[str, Split]:
    """Returns the split of each speaker with one part as test set; a tenth of the others, of both genders, validate."""
    others: dict[str, str | None] = {s: GENDERS[s[0]] for s, part in part_of.items() if part != test_part}
    valid = set(deal(others, VALID_PARTS)[0])
    return {s: "test" if part == test_part else "valid" if s in valid else "train" for s, part in part_of.items()}


def prepare_isolet(source: str | Path, output: str | Path) -> Summary:
    """Writes `manifest.tsv` with the published protocol, and `fold1.tsv` to `fold5.tsv`, each testing one part.

    Args:
        source: a folder with isolet1 to isolet5, at any depth.
        output: folder of the corpus; an earlier corpus in it is replaced.

    Raises:
        UserError: the source is not ISOLET, or the folder cannot be written.
    """
    require_apart(source, output)
    recordings, copies = find_recordings(source, _NAME, _key, EXPECTED)
    findings = Findings(copies=copies)
    waves = [path for path in recordings.values() if path.suffix.lower() == ".wav"]
    broken = check_headers(waves)
    findings.broken = [f"{path}: {problem}" for path, problem in broken.items()]
    with new_corpus(output) as folder:
        kept: dict[Key, Path] = {}
        for key, path in tqdm(recordings.items(), "converting", unit=" files", disable=None):
            if path.suffix.lower() == ".wav":
                if path not in broken:
                    kept[key] = path
                continue
            part, speaker, letter, take = key
            target = folder / "wav" / f"isolet{part}" / speaker / f"{speaker}-{letter}{take}-t.wav"
            try:
                samples, rate = read_adc(path)
            except UserError as error:
                findings.broken.append(str(error))
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wav_bytes(samples, rate))
            kept[key] = target
        if not kept:
            raise UserError(f"{source}: no recording can be read; the first problem: {findings.broken[0]}")
        part_of = {speaker: part for part, speaker, _, _ in kept}
        nominal = [(part_of[s], s, letter, take) for s in sorted(part_of) for letter in LETTERS for take in TAKES]
        findings.missing = [
            f"isolet{p}/{s}/{s}-{le}{t}-t" for p, s, le, t in nominal if (p, s, le, t) not in recordings
        ]

        def manifest(name: str, test_part: str) -> None:
            splits = _splits(part_of, test_part)
            utterances = [
                Utterance(path, letter, speaker, splits[speaker], gender=GENDERS[speaker[0]])
                for (_, speaker, letter, _), path in kept.items()
            ]
            write_manifest(folder / name, utterances)

        for part in PARTS:
            manifest(f"fold{part}.tsv", part)
        manifest(MANIFEST, TEST_PART)
    return Summary(read_manifest(Path(output) / MANIFEST, allow_outside=True), findings)
