"""Recognise the container of a recording by its content, and repair headers that streams leave unfinished.

Formats: RIFF, RF64 and BW64 as in ITU-R BS.2088, AU as in Sun's audio_filehdr, CAF as in Apple's specification.
"""

import os
import re
from io import BytesIO
from typing import BinaryIO, NamedTuple

from speechmlp.audio.mpeg import SEARCHED, clean_frames, find_frames

HEAD = 1 << 12
"""Bytes that tell what a file contains."""
_REFERENCES = re.compile(rb"<mpd|c=in ip|#extm3u|ffconcat", re.IGNORECASE)
"""What makes FFmpeg take a file for a list of other files or addresses, which it would then open."""
LENGTH_WITHIN = 200
"""Bytes of the first frame of an MP3 that hold the mark of its length."""
MAX_REPAIRED = 1 << 29
"""Bytes of the largest file that is repaired, in memory."""
_UNKNOWN = 0xFFFFFFFF
"""Size of a chunk in a stream."""


class Container(NamedTuple):
    """A format.

    Attributes:
        pattern: of its first bytes.
        name: for messages.
        libsndfile: whether libsndfile reads most files of this format; only FFmpeg reads the others.
    """

    pattern: bytes
    name: str
    libsndfile: bool = False


MP3 = Container(rb"\xff[\xe2-\xef\xf2-\xf7\xfa-\xff]", "MP3", libsndfile=True)
CONTAINERS = (
    Container(rb"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    Container(rb".{4}(ftyp|moov|mdat|free|skip|wide|styp|moof)", "M4A or MP4"),
    Container(rb"\xff[\xf0\xf1\xf8\xf9]|ADIF|\x56[\xe0-\xff]", "AAC"),
    Container(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    Container(rb"#!AMR", "AMR"),
    Container(rb"wvpk", "WavPack"),
    Container(rb"TTA[12]", "True Audio"),
    Container(rb"MAC ", "Monkey's Audio"),
    Container(rb"MP\+|MPCK", "Musepack"),
    Container(rb"FLV\x01", "Flash"),
    Container(rb"\x0b\x77", "AC-3"),
    Container(rb"\x47.{187}\x47|\0\0\x01\xba", "MPEG-TS or MPEG-PS"),
    Container(rb"RIFF.{4}AVI ", "AVI"),
    Container(rb"(RIFF|RIFX|RF64|BW64).{4}WAVE|riff\x2e\x91\xcf\x11", "WAV", libsndfile=True),
    Container(rb"OggS", "Ogg", libsndfile=True),
    Container(rb"fLaC", "FLAC", libsndfile=True),
    Container(rb"FORM.{4}AIF[FC]", "AIFF", libsndfile=True),
    Container(rb"\.snd|dns\.", "AU", libsndfile=True),
    Container(rb"caff", "CAF", libsndfile=True),
    MP3,
)


def _head(file: BinaryIO) -> bytes:
    """Returns the first bytes after the tags that MP3 and AAC begin with."""
    start = file.seek(0)
    while (head := file.read(HEAD))[:3] == b"ID3" and len(head) >= 10:
        start += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
    return head


def recognise(file: BinaryIO) -> Container | None:
    """Returns the container of an open file, or None if it is unknown."""
    head = _head(file)
    if _REFERENCES.search(head.partition(b"\0")[0]):
        return None
    return next((one for one in CONTAINERS if re.match(one.pattern, head, re.DOTALL)), None)


def lacks_length(file: BinaryIO, container: Container | None) -> bool:
    """Returns whether the recording is an MP3 that does not say how long it is, of which libsndfile may lose a part."""
    return container is MP3 and re.search(rb"Xing|Info", _head(file)[:LENGTH_WITHIN]) is None


def repaired(file: BinaryIO, container: Container | None) -> BytesIO | None:
    """Returns a copy of a recording that libsndfile reads, or None if nothing can be repaired.

    Sizes of 0 or of all ones, which programs write before they know the size, become the actual ones; chunks of odd
    size without padding are found; bytes between the frames of MP3 are left out.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_REPAIRED or (container is None and not find_frames(file.read(2 * SEARCHED))):
        return None
    repair = REPAIRS.get(container.name if container else MP3.name)
    file.seek(0)
    data = repair(file.read()) if repair else None
    return None if data is None else BytesIO(data)


def _is_chunk(data: bytes, position: int) -> bool:
    return re.match(rb"[A-Za-z][A-Za-z0-9 _]{3}", data[position : position + 4]) is not None


def _next_chunk(data: bytes, position: int) -> int:
    """Returns where the chunk after that at `position` begins; some programs do not pad chunks of odd size."""
    after = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
    padded = after + after % 2
    return after if _is_chunk(data, after) and not _is_chunk(data, padded) else padded


def _repaired_au(data: bytes) -> bytes | None:
    return data[:8] + b"\xff" * 4 + data[12:] if data[:4] == b".snd" and data[8:12] == bytes(4) else None


def _repaired_wave(data: bytes) -> bytes | None:
    position, form, length = 12, b"", 0
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        first = position + 8
        if name == b"ds64":
            length = int.from_bytes(data[first + 8 : first + 16], "little")
        elif name == b"fmt ":
            form = data[position : first + size]
        elif name == b"data":
            rest = len(data) - first
            wanted = length if size == _UNKNOWN and length else size
            if not wanted and _is_list_of_chunks(data, first):
                return None  # a recording without samples
            body = data[first : first + wanted] if 0 < wanted <= rest else data[first:]
            chunks = form + b"data" + min(len(body), _UNKNOWN).to_bytes(4, "little") + body
            return b"RIFF" + min(len(chunks) + 4, _UNKNOWN).to_bytes(4, "little") + b"WAVE" + chunks if form else None
        position = _next_chunk(data, position)
    return None


def _is_list_of_chunks(data: bytes, position: int) -> bool:
    while position < len(data) and _is_chunk(data, position):
        position = _next_chunk(data, position)
    return position in (len(data), len(data) + 1)


def _repaired_caf(data: bytes) -> bytes | None:
    position = 8
    while position + 12 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 12], "big", signed=True)
        if data[position : position + 4] == b"data":
            rest = len(data) - position - 12
            return data[: position + 4] + rest.to_bytes(8, "big") + data[position + 12 :] if size < 0 else None
        if size < 0:
            return None
        position += 12 + size
    return None


REPAIRS = {"WAV": _repaired_wave, "AU": _repaired_au, "CAF": _repaired_caf, "MP3": clean_frames}
