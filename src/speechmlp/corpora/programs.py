"""Where the voices of the corpus `people` are published: repositories at pinned commits, and a package of Debian.

GitHub publishes no checksums of files; the commit in an address names the content. Whether a recording is the letter
of its name is checked by a model, as for recordings from a folder.
"""

import csv
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from speechmlp.corpora.files import download
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

GITHUB = "https://github.com"
DEBIAN = (
    "https://deb.debian.org/debian/pool/main/a/asterisk-core-sounds/asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
    "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
"""Address and SHA-256 of the package; its letters were spoken by Allison Smith."""
ALLISON = "debian-asterisk-allison"
DEBIAN_LETTERS = "usr/share/asterisk/sounds/en_US_f_Allison/letters"
INDEX = "index.tsv"
COLUMNS = ("path", "letter", "speaker", "start", "end", "use", "licence", "origin")


@dataclass(frozen=True)
class Voice:
    """A voice in a repository.

    Attributes:
        name: of the speaker.
        repository: owner and name on GitHub.
        commit: a commit that contains the recordings.
        path: of a recording; {upper} and {lower} stand for the letter.
        licence: of the repository.
        letters: those that are recorded.
    """

    name: str
    repository: str
    commit: str
    path: str
    licence: str
    letters: str = "".join(LETTERS)

    def origin(self, letter: str) -> str:
        """Returns where the recording of a letter comes from."""
        return f"{self.repository}@{self.commit} : {self.path.format(upper=letter, lower=letter.lower())}"

    def address(self, letter: str) -> str:
        """Returns the address of the recording of a letter."""
        path = self.path.format(upper=letter, lower=letter.lower())
        return f"{GITHUB}/{self.repository}/raw/{self.commit}/{path}"


GAME = ("andrewacashner/lettergame", "2217f742de745990d102beb7101cecde5ff308fd")
TODDLER = ("acct252000/Nexus-7-Toddler", "6ccfd022159220d71f9064f196f8c7bc8dfaebe0")
PRACTICE = ("TevinLi/letter-practice", "54d3326cc4ed7d0181a3a0d683c4e4b082d602d9")
ABC = ("zlargon/abc", "0774338e5b4b63c9effd26cbe5d7529b8c7993b2")
ELIMU = ("elimu-ai/ml-authentication", "fc3f8ecd90")
RACE = ("itsybits-xyz/alphabet_race", "54f68efb37")
VOICES = (
    Voice("acct252000+Nexus-7-Toddler", *TODDLER, "app/src/main/res/raw/{lower}.wav", "MIT"),
    Voice("TevinLi+letter-practice", *PRACTICE, "sound/{lower}.mp3", "MIT"),
    Voice("zlargon+abc", *ABC, "audio/{lower}.mp3", "MIT", "BCDEFGHJKLMNOPQRSTUVWXYZ"),
    Voice("elimu-ai-ml-authentication", *ELIMU, "app/src/main/res/raw/letter_name_{lower}.wav", "MIT"),
    Voice("itsybits-xyz-alphabet-race", *RACE, "sounds/{lower}.wav", "CC-BY 3.0", "ABCDEFGHIJKLMNOPQRSTUWXYZ"),
    *(Voice(f"lettergame-{number}", *GAME, f"audio/{number}/{{upper}}.ogg", "MIT") for number in range(3)),
)


def fetch_people(folder: Path) -> None:
    """Downloads the voices and writes their index; recordings that are there are not downloaded again.

    Raises:
        UserError: an address cannot be reached, or a file is not what was published.
    """
    places = {(voice, letter): _place(folder, voice, letter) for voice in VOICES for letter in voice.letters}
    package = folder / PurePosixPath(DEBIAN[0]).name
    wanted = [(voice.address(letter), place, None) for (voice, letter), place in places.items()]
    try:
        for address, place, sha256 in tqdm([*wanted, (DEBIAN[0], package, DEBIAN[1])], "voices", disable=None):
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                download(address, place, sha256)
        rows = [
            (_name(folder, place), letter, voice.name, "", "", "train", voice.licence, voice.origin(letter))
            for (voice, letter), place in places.items()
        ]
        for letter, place in _unpack_debian(package, folder / ALLISON):
            origin = f"{package.name} : {DEBIAN_LETTERS}/{letter.lower()}.wav"
            rows.append((_name(folder, place), letter, ALLISON, "", "", "train", "CC-BY-SA 3.0", origin))
    finally:
        for empty in (*folder.glob("*/"), folder):
            with suppress(OSError):
                empty.rmdir()  # fails if it contains files
    with (folder / INDEX).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows((COLUMNS, *rows))


def _name(folder: Path, place: Path) -> str:
    return place.relative_to(folder).as_posix()


def _place(folder: Path, voice: Voice, letter: str) -> Path:
    return folder / voice.name / f"{letter}{Path(voice.path).suffix}"


def _unpack_debian(package: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields the letters in the package, and their files.

    A package is an archive of the format ar (60 bytes of header, the size in bytes 48 to 57) with a tar archive in it.

    Raises:
        UserError: the package is damaged.
    """
    folder.mkdir(exist_ok=True)
    try:
        with package.open("rb") as file:
            file.seek(8)
            header = file.read(60)
            while len(header) == 60 and not header.startswith(b"data.tar"):
                size = int(header[48:58])
                file.seek(size + size % 2, 1)
                header = file.read(60)
            with tarfile.open(fileobj=file, mode="r|*") as tar:  # a stream, which ends where its data ends
                for member in tar:
                    path = Path(member.name)
                    letter = path.stem.upper()
                    if path.parent.as_posix() == DEBIAN_LETTERS and letter in LETTERS:
                        content = tar.extractfile(member)
                        if content is not None:
                            place = folder / f"{letter}.wav"
                            place.write_bytes(content.read())
                            yield letter, place
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise UserError(f"{package}: cannot be unpacked as a package of Debian ({error})") from error
