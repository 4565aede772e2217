"""Find the frames of MPEG audio (MP3, MP2) between other bytes; headers as in ISO/IEC 11172-3 and 13818-3."""

import re

LAYERS = {3: 1, 2: 2, 1: 3}
"""Field of the header -> layer."""
VERSION_1 = 3
"""Field of MPEG-1; 2 is MPEG-2, 0 is MPEG-2.5."""
BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Is MPEG-1, layer -> kbit/s of fields 1 to 14."""
RATES = (44_100, 48_000, 32_000)
SEARCHED = 1 << 20
"""Bytes in which the first frame is looked for."""
CHAINED = 3
"""Frames in a row that show that bytes are frames and no coincidence."""
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_EMPTY_TAG = b"TAG" + bytes(125)
"""ID3v1, which decoders skip."""


def _frame(data: bytes, position: int) -> tuple[int, bytes] | None:
    """Returns the size of the frame at a position and what all frames of a stream have in common, or None."""
    header = data[position : position + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, LAYERS.get(header[1] >> 1 & 3)
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer is None or not 0 < bits < 15 or rate == 3:
        return None
    first = version == VERSION_1
    hertz = RATES[rate] >> {VERSION_1: 0, 2: 1, 0: 2}[version]
    slots = {1: 12, 2: 144, 3: 144 if first else 72}[layer] * 1000 * BITRATES[first, layer][bits - 1] // hertz
    size = (slots + (header[2] >> 1 & 1)) * (4 if layer == 1 else 1)
    return size, bytes((header[1] & 0xFE, header[2] & 0x0C))


def _begins_chain(data: bytes, position: int, wanted: bytes | None) -> bytes | None:
    """Returns what frames have in common if several of them follow each other from a position on."""
    for _ in range(CHAINED):
        if position == len(data) and wanted is not None:
            break
        found = _frame(data, position)
        if found is None or wanted not in (None, found[1]):
            return None
        position, wanted = position + found[0], found[1]
    return wanted


def find_frames(data: bytes) -> list[tuple[int, int]]:
    """Returns begin and end of all whole frames."""
    frames: list[tuple[int, int]] = []
    position, kind = 0, None
    while position + 4 <= len(data):
        found = _frame(data, position)
        if kind is not None and found is not None and found[1] == kind and position + found[0] <= len(data):
            frames.append((position, position + found[0]))
            position += found[0]
            continue
        for match in _SYNC.finditer(data, position, len(data) if frames else SEARCHED):
            if (common := _begins_chain(data, match.start(), kind)) is not None:
                position, kind = match.start(), common
                break
        else:
            break
    return frames


def clean_frames(data: bytes) -> bytes | None:
    """Returns MPEG audio without the bytes between its frames, or None if there are no frames.

    libsndfile estimates the length from the size of the first frame, and stops there. Empty tags at the end make the
    estimate no shorter than the recording, even if the other frames are larger.
    """
    frames = find_frames(data)
    if not frames:
        return None
    size = sum(end - begin for begin, end in frames)
    largest = max(end - begin for begin, end in frames)
    missing = len(frames) * (frames[0][1] - frames[0][0] + 1) - size + largest
    return b"".join(data[begin:end] for begin, end in frames) + _EMPTY_TAG * max(0, -(-missing // len(_EMPTY_TAG)))
