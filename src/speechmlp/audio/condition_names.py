"""Names of listening conditions, such as `white_10db`; `audio/conditions.py` implements them."""

import re

from speechmlp.errors import UserError

CONDITIONS = ("clean", "telephone", "white_10db", "babble_10db")
"""Conditions of the results table."""
SWEEPS = {
    "white": ("white_40db", "white_30db", "white_20db", "white_10db", "white_5db", "white_0db"),
    "babble": ("babble_40db", "babble_30db", "babble_20db", "babble_10db", "babble_5db", "babble_0db"),
    "reverb": ("reverb_100ms", "reverb_200ms", "reverb_400ms", "reverb_800ms"),
    "gain": ("gain_-40db", "gain_-20db", "gain_0db", "gain_10db", "gain_20db"),
    "shift": ("shift_-400ms", "shift_-200ms", "shift_0ms", "shift_200ms", "shift_400ms"),
    "speed": ("speed_70", "speed_85", "speed_100", "speed_115", "speed_130"),
    "telephone": ("telephone",),
}
"""Kind -> conditions, mildest first or by increasing level."""
MEANINGS = {
    "white": "white noise, signal-to-noise ratio in dB",
    "babble": "other voices, signal-to-noise ratio in dB",
    "reverb": "reverberation time in ms",
    "gain": "gain in dB, clipped at full scale",
    "shift": "shift within the second, in ms",
    "speed": "speed and pitch in %",
    "telephone": "telephone band",
}
_FORM = re.compile(r"(white|babble|gain)_(-?\d{1,3})db|(reverb|shift)_(-?\d{1,4})ms|(speed)_(\d{2,3})")


def parse_condition(name: str) -> tuple[str, int]:
    """Returns the kind and level in a condition's name; level 0 for conditions without one.

    Raises:
        UserError: there is no such condition.
    """
    if name in ("clean", "telephone"):
        return name, 0
    if found := _FORM.fullmatch(name):
        kind, level = (part for part in found.groups() if part is not None)
        if not ((kind == "reverb" and int(level) < 1) or (kind == "speed" and not 50 <= int(level) <= 200)):
            return kind, int(level)
    raise UserError(
        f"--condition: expected clean, telephone, or a name like white_10db, babble_5db, reverb_400ms, gain_-20db, "
        f"shift_-200ms or speed_115 (50 to 200), found {name!r}"
    )
