"""Find the last page of an Ogg file, and the last frame of a FLAC file.

Formats: Ogg as in RFC 3533, FLAC as in RFC 9639.
"""

import os
import re
import struct
from typing import BinaryIO

TAIL = 1 << 17
"""Bytes at the end of a file that hold two pages or several frames."""
STREAMINFO = 26
"""Bytes of a FLAC file up to the sample rate."""
_FLAC_FRAME = re.compile(rb"\xff[\xf8\xf9][^\x00-\x0f][\x00-\xaf]")


def _tail(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL))
    return file.read(TAIL)


def last_page(file: BinaryIO) -> int:
    """Returns the first sample of the last page of an Ogg file of one stream, or 0 if it is not found."""
    file.seek(0)
    head = file.read(18)
    if head[:4] != b"OggS":
        return 0
    tail, ends, position = _tail(file), [], 0
    while 0 <= (position := tail.find(b"OggS", position)) <= len(tail) - 18:
        if tail[position + 14 : position + 18] == head[14:]:  # the stream's number
            ends.append(struct.unpack_from("<q", tail, position + 6)[0])
        position += 4
    return max((end for end in ends[:-1]), default=0)


def last_flac_frame(file: BinaryIO) -> int:
    """Returns the first sample of the last frame of a FLAC file, or 0 if it is not found."""
    file.seek(0)
    head = file.read(STREAMINFO)
    tail = _tail(file)
    found = [0]
    for match in _FLAC_FRAME.finditer(tail):
        header = tail[match.start() : match.start() + 16]
        ones = next((count for count in range(8) if not header[4:5] or not header[4] << count & 128), 8)
        after = 4 + max(1, ones)
        number = header[4] & (0x7F >> ones) if ones < 7 else 0
        for byte in header[5:after]:
            number = number << 6 | byte & 63
        after += {6: 1, 7: 2}.get(header[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
        if len(header) > after and _crc_8(header[:after]) == header[after]:
            found.append(number if header[1] & 1 else number * int.from_bytes(head[8:10], "big"))
    return max(found)


def _crc_8(data: bytes) -> int:
    """Returns the checksum of a frame's header, with the polynomial x^8 + x^2 + x + 1."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 128 else 0)) & 255
    return value
