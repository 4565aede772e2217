"""How the names of the letters are pronounced, in the phonemes of each program that speaks or aligns them."""

import re
from typing import NamedTuple


class Pronunciation(NamedTuple):
    """A letter's name.

    Attributes:
        cmu: in the phones of CMU's dictionary, which PocketSphinx reads: the usual one first, then others.
        misaki: in those of Misaki, which Hibari and Kokoro read; A, I and O are the diphthongs of day, my, go.
        flite: in those of Flite.
        ipa: in the international alphabet, which Piper reads.
    """

    cmu: tuple[str, ...]
    misaki: str
    flite: str
    ipa: str


PRONUNCIATIONS = {
    "A": Pronunciation(("EY",), "ˈA", "ey", "ˈeɪ"),
    "B": Pronunciation(("B IY",), "bˈi", "b iy", "bˈiː"),
    "C": Pronunciation(("S IY",), "sˈi", "s iy", "sˈiː"),
    "D": Pronunciation(("D IY",), "dˈi", "d iy", "dˈiː"),
    "E": Pronunciation(("IY",), "ˈi", "iy", "ˈiː"),
    "F": Pronunciation(("EH F",), "ˈɛf", "eh f", "ˈɛf"),
    "G": Pronunciation(("JH IY",), "ʤˈi", "jh iy", "dʒˈiː"),
    "H": Pronunciation(("EY CH", "HH EY CH"), "ˈAʧ", "ey ch", "ˈeɪtʃ"),
    "I": Pronunciation(("AY",), "ˈI", "ay", "ˈaɪ"),
    "J": Pronunciation(("JH EY",), "ʤˈA", "jh ey", "dʒˈeɪ"),
    "K": Pronunciation(("K EY",), "kˈA", "k ey", "kˈeɪ"),
    "L": Pronunciation(("EH L",), "ˈɛl", "eh l", "ˈɛl"),
    "M": Pronunciation(("EH M",), "ˈɛm", "eh m", "ˈɛm"),
    "N": Pronunciation(("EH N",), "ˈɛn", "eh n", "ˈɛn"),
    "O": Pronunciation(("OW",), "ˈO", "ow", "ˈoʊ"),
    "P": Pronunciation(("P IY",), "pˈi", "p iy", "pˈiː"),
    "Q": Pronunciation(("K Y UW",), "kjˈu", "k y uw", "kjˈuː"),
    "R": Pronunciation(("AA R", "AA"), "ˈɑɹ", "aa r", "ˈɑːɹ"),
    "S": Pronunciation(("EH S",), "ˈɛs", "eh s", "ˈɛs"),
    "T": Pronunciation(("T IY",), "tˈi", "t iy", "tˈiː"),
    "U": Pronunciation(("Y UW",), "jˈu", "y uw", "jˈuː"),
    "V": Pronunciation(("V IY",), "vˈi", "v iy", "vˈiː"),
    "W": Pronunciation(("D AH B AH L Y UW", "D AH B Y UW"), "dˈʌbᵊlju", "d ah b ax l y uw", "dˈʌbəljˌuː"),
    "X": Pronunciation(("EH K S",), "ˈɛks", "eh k s", "ˈɛks"),
    "Y": Pronunciation(("W AY",), "wˈI", "w ay", "wˈaɪ"),
    "Z": Pronunciation(("Z IY", "Z EH D"), "zˈi", "z iy", "zˈiː"),
}
"""Letter -> its name. A synthesiser that got the letter itself would read A as an article, and Z as zed."""

ACCENTED_CMU = {
    "A": ("EH",),
    "G": ("JH EY",),
    "H": ("EH CH",),
    "O": ("AO",),
    "P": ("B IY",),
    "R": ("AA ER",),
    "T": ("D IY",),
    "V": ("W IY",),
    "W": ("D AH B L UW", "D AA B L Y UW"),
}
"""Letter -> further phones of CMU's dictionary: the nearest ones to how speakers of other languages say its name."""

SPELLING = {
    **{"a": "AH", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH"},
    **{"k": "K", "l": "L", "m": "M", "n": "N", "o": "OW", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T"},
    **{"u": "UH", "v": "V", "w": "W", "x": "K S", "y": "Y", "z": "Z"},
    **{"sh": "SH", "ch": "CH", "th": "TH", "ph": "F", "ee": "IY", "oo": "UW"},
}
"""Letters of a written word -> phones of CMU's dictionary."""


def phones_of(word: str) -> str:
    """Returns roughly how a name is pronounced that no dictionary has, in phones of CMU's dictionary."""
    parts = re.findall("|".join(sorted(SPELLING, key=len, reverse=True)), word)
    return " ".join(SPELLING[part] for part in parts)


ZED = "zˈɛd"
"""The British name of Z, in Misaki's phonemes and in IPA."""
HAITCH = "hˈAʧ"
"""The Irish name of H, in Misaki's phonemes."""
BRITISH = {"O": "ˈQ", "R": "ˈɑː"}
"""Misaki's phonemes of the names that British English says otherwise: Q is its diphthong of go."""

ACCENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "indian": {
        "A": ("ˈeː",),
        "B": ("bˈiː",),
        "C": ("sˈiː",),
        "D": ("ɖˈiː",),
        "E": ("ˈiː",),
        "F": ("ˈɛf", "ˈæf"),
        "G": ("ʤˈiː",),
        "H": ("ˈeːʧ", "hˈeːʧ"),
        "I": ("ˈaɪ", "ˈaːi"),
        "J": ("ʤˈeː",),
        "K": ("kˈeː",),
        "L": ("ˈɛl", "ˈæl"),
        "M": ("ˈɛm", "ˈæm"),
        "N": ("ˈɛn", "ˈæn"),
        "O": ("ˈoː",),
        "P": ("pˈiː",),
        "Q": ("kjˈuː",),
        "R": ("ˈɑːɾ", "ˈaːr", "ˈɑːɽ"),
        "S": ("ˈɛs", "ˈæs"),
        "T": ("ʈˈiː",),
        "U": ("jˈuː",),
        "V": ("ʋˈiː",),
        "W": ("ɖˈəbljuː", "ɖˈəbəljˌuː", "ɖˈəblˌuː"),
        "X": ("ˈɛks", "ˈæks"),
        "Y": ("ʋˈaɪ", "ʋˈaːi"),
        "Z": ("zˈɛɖ", "ʤˈɛɖ"),
    },
    "spanish": {
        "A": ("ˈei",),
        "B": ("bˈi",),
        "C": ("sˈi",),
        "D": ("dˈi",),
        "E": ("ˈi",),
        "F": ("ˈef",),
        "G": ("ʤˈi", "ʝˈi"),
        "H": ("ˈeiʧ",),
        "I": ("ˈai",),
        "J": ("ʤˈei", "ʝˈei"),
        "K": ("kˈei",),
        "L": ("ˈel",),
        "M": ("ˈem",),
        "N": ("ˈen",),
        "O": ("ˈou",),
        "P": ("pˈi",),
        "Q": ("kjˈu",),
        "R": ("ˈar", "ˈaɾ"),
        "S": ("ˈes",),
        "T": ("tˈi",),
        "U": ("jˈu",),
        "V": ("vˈi", "βˈi"),
        "W": ("dˈabelju", "dˈaβlju"),
        "X": ("ˈeks",),
        "Y": ("wˈai", "ɡwˈai"),
        "Z": ("zˈi", "sˈed", "zˈed"),
    },
    "french": {
        "A": ("ˈɛj", "ˈe"),
        "B": ("bˈi",),
        "C": ("sˈi",),
        "D": ("dˈi",),
        "E": ("ˈi",),
        "F": ("ˈɛf",),
        "G": ("ʤˈi", "ʒˈi"),
        "H": ("ˈɛjʧ", "ˈeʧ"),
        "I": ("ˈaj",),
        "J": ("ʤˈɛj", "ʒˈe"),
        "K": ("kˈɛj", "kˈe"),
        "L": ("ˈɛl",),
        "M": ("ˈɛm",),
        "N": ("ˈɛn",),
        "O": ("ˈo", "ˈow"),
        "P": ("pˈi",),
        "Q": ("kjˈu",),
        "R": ("ˈaʁ",),
        "S": ("ˈɛs",),
        "T": ("tˈi",),
        "U": ("jˈu",),
        "V": ("vˈi",),
        "W": ("dˈœbljˌu", "dˈabəljˌu"),
        "X": ("ˈɛks",),
        "Y": ("wˈaj",),
        "Z": ("zˈɛd", "zˈi"),
    },
    "italian": {
        "A": ("ˈei",),
        "B": ("bˈi",),
        "C": ("sˈi",),
        "D": ("dˈi",),
        "E": ("ˈi",),
        "F": ("ˈɛf", "ˈɛfə"),
        "G": ("ʤˈi",),
        "H": ("ˈeiʧ",),
        "I": ("ˈai",),
        "J": ("ʤˈei",),
        "K": ("kˈei",),
        "L": ("ˈɛl", "ˈɛlə"),
        "M": ("ˈɛm", "ˈɛmə"),
        "N": ("ˈɛn", "ˈɛnə"),
        "O": ("ˈo", "ˈou"),
        "P": ("pˈi",),
        "Q": ("kjˈu",),
        "R": ("ˈar", "ˈarə"),
        "S": ("ˈɛs", "ˈɛsə"),
        "T": ("tˈi",),
        "U": ("jˈu",),
        "V": ("vˈi",),
        "W": ("dˈabolju",),
        "X": ("ˈɛks",),
        "Y": ("wˈai",),
        "Z": ("zˈed", "zˈi", "ʣˈed"),
    },
    "portuguese": {
        "A": ("ˈei",),
        "B": ("bˈi",),
        "C": ("sˈi",),
        "D": ("dˈi",),
        "E": ("ˈi",),
        "F": ("ˈɛfi", "ˈɛf"),
        "G": ("ʤˈi",),
        "H": ("ˈeiʧ",),
        "I": ("ˈai",),
        "J": ("ʤˈei",),
        "K": ("kˈei",),
        "L": ("ˈɛw", "ˈɛl"),
        "M": ("ˈem",),
        "N": ("ˈen",),
        "O": ("ˈou",),
        "P": ("pˈi",),
        "Q": ("kjˈu",),
        "R": ("ˈar", "ˈax"),
        "S": ("ˈɛs", "ˈɛsi"),
        "T": ("tˈi", "ʧˈi"),
        "U": ("jˈu",),
        "V": ("vˈi",),
        "W": ("dˈaboljˌu",),
        "X": ("ˈɛks", "ˈɛkis"),
        "Y": ("wˈai",),
        "Z": ("zˈi", "zˈɛd"),
    },
    "chinese": {
        "A": ("ˈei",),
        "B": ("bˈi",),
        "C": ("sˈi", "ɕˈi"),
        "D": ("dˈi",),
        "E": ("ˈi",),
        "F": ("ˈɛf", "ˈɛfu"),
        "G": ("ʤˈi", "ʨˈi"),
        "H": ("ˈeiʧ", "ˈeiʧə"),
        "I": ("ˈai",),
        "J": ("ʤˈei", "ʨˈei"),
        "K": ("kʰˈei",),
        "L": ("ˈɛl", "ˈɛlo", "ˈɛɚ"),
        "M": ("ˈɛm", "ˈɛmu"),
        "N": ("ˈɛn", "ˈən"),
        "O": ("ˈou",),
        "P": ("pʰˈi",),
        "Q": ("kʰjˈu", "kʰjˈou"),
        "R": ("ˈɑɹ", "ˈɑɚ", "ˈɑ"),
        "S": ("ˈɛs", "ˈɛsɨ"),
        "T": ("tʰˈi",),
        "U": ("jˈu", "jˈou"),
        "V": ("vˈi", "wˈei", "ʋˈi"),
        "W": ("dˈabuljˌu", "dˈabəljˌu"),
        "X": ("ˈɛks", "ˈɛksɨ"),
        "Y": ("wˈai",),
        "Z": ("zˈi", "zˈei", "ʣˈɛd"),
    },
    "japanese": {
        "A": ("ˈeː", "ˈei"),
        "B": ("bˈiː",),
        "C": ("ɕˈiː", "sˈiː"),
        "D": ("dˈiː",),
        "E": ("ˈiː",),
        "F": ("ˈeɸɯ", "ˈɛf"),
        "G": ("ʤˈiː",),
        "H": ("ˈeʨi", "ˈeiʧ"),
        "I": ("ˈai",),
        "J": ("ʤˈeː", "ʤˈei"),
        "K": ("kˈeː", "kˈei"),
        "L": ("ˈeɾɯ", "ˈɛl"),
        "M": ("ˈemɯ", "ˈɛm"),
        "N": ("ˈenɯ", "ˈɛn"),
        "O": ("ˈoː",),
        "P": ("pˈiː",),
        "Q": ("kjˈɯː", "kjˈuː"),
        "R": ("ˈaːɾɯ", "ˈaː"),
        "S": ("ˈesɯ", "ˈɛs"),
        "T": ("tˈiː",),
        "U": ("jˈɯː", "jˈuː"),
        "V": ("vˈiː", "bɯˈi"),
        "W": ("dˈabɯɾjˌɯ", "dˈabɯlju"),
        "X": ("ˈekɯsɯ", "ˈɛks"),
        "Y": ("wˈai",),
        "Z": ("zˈiː", "zˈetto"),
    },
}
"""Accent -> letter -> its English names as speakers of other languages say them, in Kokoro's symbols (mostly IPA).

A name that would be that of another letter is left out, such as Spanish V as that of B, or Brazilian D as that of G.
"""
