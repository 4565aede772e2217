"""TI46 alpha (LDC93S9; Texas Instruments, 1980): 16 people say the alphabet 26 times, NIST SPHERE at 12.5 kHz.

The published split tests the training speakers in later sessions. For tests on new speakers there are four folds, each
of which leaves out four speakers; the first fold is the manifest of the corpus.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from speechmlp.corpora.files import MANIFEST, new_corpus, require_apart
from speechmlp.corpora.published import Findings, Key, check_headers, find_recordings
from speechmlp.data.manifest import GENDERS, Split, Utterance, write_manifest
from speechmlp.data.splits import deal, split_counts
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

SPEAKERS = 16
SETS = tuple("0123456789")
"""Takes of the published training part."""
VALID_SETS = ("8", "9")
"""Takes of the training part that are the validation set of the published split."""
SESSIONS = tuple(f"{session}-{take}" for session in range(1, 9) for take in range(2))
"""Sessions and takes of the published test part."""
FOLDS = 4
PUBLISHED = "published.tsv"
EXPECTED = "TI46 alpha, with recordings like ti_alpha/train/f1/0af1set0.wav and ti_alpha/test/f1/0af1s1t0.wav (or .sph)"
_NAME = re.compile(r"0([a-z])([fm]\d)(?:set(\d)|s([1-8])t([01]))\.(?:wav|sph)", re.IGNORECASE)


@dataclass(frozen=True)
class Summary:
    """Result of the preparation: the published split, a split by speaker, and problems found."""

    published: list[Utterance]
    left_out: list[Utterance]
    findings: Findings

    def lines(self) -> list[str]:
        """Returns the counts as text, with an explanation of the splits."""
        speakers = {utterance.speaker for utterance in self.left_out}
        tested = sorted({utterance.speaker for utterance in self.left_out if utterance.split == "test"})
        whole = SPEAKERS * len(LETTERS) * (len(SETS) + len(SESSIONS))
        return [
            f"TI46 alpha: {len(self.left_out)} letters of {len(speakers)} speakers",
            f"{MANIFEST} is split by speaker (test speakers: {' '.join(tested)}; other test speakers in fold2.tsv to "
            f"fold{FOLDS}.tsv): {split_counts(self.left_out)}",
            f"{PUBLISHED} is the published split, with the same speakers in training and test; it needs "
            f"corpus.shared_speakers=true: {split_counts(self.published)}",
            *([f"warning: the whole corpus has {SPEAKERS} speakers"] if len(speakers) != SPEAKERS else []),
            *self.findings.lines(whole),
        ]


def _key(_: Path, match: re.Match[str]) -> Key:
    part, take = ("train", match[3]) if match[3] else ("test", f"{match[4]}-{match[5]}")
    return (part, match[2].lower(), match[1].upper(), take)


def _name(part: str, speaker: str, letter: str, take: str) -> str:
    last = f"set{take}" if part == "train" else "s{}t{}".format(*take.split("-"))
    return f"{part}/{speaker}/0{letter.lower()}{speaker}{last}"


def prepare_ti46(source: str | Path, output: str | Path) -> Summary:
    """Writes manifests: `manifest.tsv` and `fold1.tsv` to `fold4.tsv` split by speaker, and `published.tsv`.

    Args:
        source: a folder with the recordings of the alphabet, at any depth; recordings stay in place.
        output: folder of the corpus; an earlier corpus in it is replaced.

    Raises:
        UserError: the source is not the TI46 alphabet, or the folder cannot be written.
    """
    require_apart(source, output)
    recordings, copies = find_recordings(source, _NAME, _key, EXPECTED)
    broken = check_headers(recordings.values())
    findings = Findings(copies, [f"{path}: {problem}" for path, problem in broken.items()])
    kept = {key: path for key, path in recordings.items() if path not in broken}
    if not kept:
        raise UserError(f"{source}: no recording can be read; the first problem: {findings.broken[0]}")
    speakers = sorted({speaker for _, speaker, _, _ in recordings})
    nominal = [
        (part, speaker, letter, take)
        for part, takes in (("train", SETS), ("test", SESSIONS))
        for speaker in speakers
        for letter in LETTERS
        for take in takes
    ]
    findings.missing = [_name(*key) for key in nominal if key not in recordings]
    folds = deal({speaker: GENDERS[speaker[0]] for speaker in speakers}, FOLDS)

    def leaving_out(fold: int) -> list[Utterance]:
        # Validation: the first woman and the first man of the next fold.
        following = folds[(fold + 1) % FOLDS]
        valid = {next((s for s in following if s[0] == gender), "") for gender in "fm"}
        split: dict[str, Split] = {
            s: "test" if s in folds[fold] else "valid" if s in valid else "train" for s in speakers
        }
        return [Utterance(path, le, s, split[s], gender=GENDERS[s[0]]) for (_, s, le, _), path in kept.items()]

    def as_published() -> list[Utterance]:
        split: dict[tuple[str, bool], Split] = {("train", False): "train", ("train", True): "valid"}
        return [
            Utterance(path, le, s, split.get((part, take in VALID_SETS), "test"), gender=GENDERS[s[0]])
            for (part, s, le, take), path in kept.items()
        ]

    with new_corpus(output) as folder:
        for fold in range(FOLDS):
            write_manifest(folder / f"fold{fold + 1}.tsv", leaving_out(fold))
        write_manifest(folder / MANIFEST, leaving_out(0))
        write_manifest(folder / PUBLISHED, as_published())
    return Summary(as_published(), leaving_out(0), findings)
