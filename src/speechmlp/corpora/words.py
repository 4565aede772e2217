"""Non-letters: words of Google Speech Commands (Warden, 2018; CC-BY 4.0), by thousands of people on many devices."""

import hashlib
import re
import shutil
import tarfile
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from speechmlp.audio.recordings import SUFFIXES
from speechmlp.corpora.files import NEGATIVES, download, new_corpus, require_apart
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.data.splits import split_by_speaker
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, NOT_A_LETTER

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
"""Address and checksum are those of `torchaudio.datasets.SPEECHCOMMANDS`."""
NAME = re.compile(r"(.+)_nohash_\d+")
"""Names of recordings contain the speaker."""
LICENCE = "CC-BY-4.0"


def choose(names: Iterable[str], each: int) -> dict[str, tuple[str, str]]:
    """Returns recording -> (word, speaker) for up to `each` recordings of each speaker, chosen by a hash of the name.

    Args:
        names: paths that end in `<word>/<speaker>_nohash_<take>.<suffix>`; others are ignored, and so are letters.
        each: number of recordings of each speaker.
    """
    by_speaker: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for name in names:
        path = PurePosixPath(name)
        match = NAME.fullmatch(path.stem)
        word = path.parent.name
        if match and path.suffix.lower() in SUFFIXES and word and word.upper() not in LETTERS:
            by_speaker[match[1]][name] = (word, match[1])
    chosen = {}
    for recordings in by_speaker.values():
        order = sorted(recordings, key=lambda name: hashlib.sha256("/".join(name.split("/")[-2:]).encode()).digest())
        chosen.update({name: recordings[name] for name in order[:each]})
    return dict(sorted(chosen.items()))


def _copy_from_folder(source: Path, folder: Path, each: int) -> dict[Path, tuple[str, str]]:
    names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    copied = {}
    for name, (word, speaker) in choose(names, each).items():
        path = folder / "wav" / word / PurePosixPath(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, path)
        copied[path] = (word, speaker)
    return copied


def _copy_from_archive(source: Path, folder: Path, each: int) -> dict[Path, tuple[str, str]]:
    """Unpacks only the chosen recordings: the whole corpus is 3.5 GB."""
    copied = {}
    try:
        with tarfile.open(source) as tar:
            members = {member.name: member for member in tar if member.isfile()}
            for name, (word, speaker) in choose(members, each).items():
                path = folder / "wav" / Path(word).name / PurePosixPath(name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                file = tar.extractfile(members[name])
                if file is not None:
                    with path.open("wb") as target:
                        shutil.copyfileobj(file, target)
                    copied[path] = (word, speaker)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{source}: cannot be unpacked ({error}); expected {PurePosixPath(URL).name}") from error
    return copied


def prepare_words(source: str | Path | None, output: str | Path, each: int = 1) -> list[Utterance]:
    """Copies words and writes their manifest, `non_letters.tsv`, with splits by speaker; returns the utterances.

    Args:
        source: folder or tar archive of Speech Commands, or of a part of it; None to download it (2.3 GB).
        output: folder of the corpus; an earlier corpus in it is replaced.
        each: number of words of each speaker.

    Raises:
        UserError: the source has no such recordings, or the folder cannot be written.
    """
    if each < 1:
        raise UserError(f"expected 1 or more words of each speaker, found {each}")
    if source is not None:
        require_apart(source, output)
        if not Path(source).exists():
            raise UserError(f"{source}: no such file or folder; expected Speech Commands, as bed/1a2b_nohash_0.wav")
    with new_corpus(output, NEGATIVES) as folder, tempfile.TemporaryDirectory(prefix="speechmlp-words-") as scratch:
        if source is None:
            # Next to the corpus, so that an interrupted download can continue.
            arriving = Path(output).with_name(f"{Path(output).name}.download")
            download(URL, arriving, SHA256)
            source = Path(scratch) / PurePosixPath(URL).name
            shutil.move(arriving, source)
        source = Path(source)
        copied = (_copy_from_folder if source.is_dir() else _copy_from_archive)(source, folder, each)
        if not copied:
            raise UserError(f"{source}: expected recordings such as bed/1a2b_nohash_0.wav, found none")
        splits = split_by_speaker([speaker for _, speaker in copied.values()], [word for word, _ in copied.values()])
        write_manifest(
            folder / NEGATIVES,
            [
                Utterance(path, NOT_A_LETTER, speaker, splits[speaker], groups={"word": word, "licence": LICENCE})
                for path, (word, speaker) in copied.items()
            ],
        )
    return read_manifest(Path(output) / NEGATIVES, letters=False)


def lines(utterances: list[Utterance]) -> list[str]:
    """Returns the counts as text."""
    words = Counter(utterance.groups["word"] for utterance in utterances)
    speakers = len({utterance.speaker for utterance in utterances})
    return [
        f"Words: {len(utterances)} of {speakers} speakers",
        ", ".join(f"{word}: {count}" for word, count in sorted(words.items())),
    ]
