"""How the names of the letters are pronounced, in the phonemes of each program that speaks or aligns them."""

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

ZED = "zˈɛd"
"""The British name of Z, in Misaki's phonemes and in IPA."""
HAITCH = "hˈAʧ"
"""The Irish name of H, in Misaki's phonemes."""
BRITISH = {"O": "ˈQ", "R": "ˈɑː"}
"""Misaki's phonemes of the names that British English says otherwise: Q is its diphthong of go."""
