"""The 26 letters, their labels, and the E-set."""

import reprlib
import string

LETTERS = tuple(string.ascii_uppercase)
NUM_LETTERS = len(LETTERS)

NOT_A_LETTER = "-"
"""The letter of non-letters in manifests: other words, noise, silence. Its label is `NUM_LETTERS`."""

E_SET = tuple("BCDEGPTVZ")
"""The letters that rhyme with E: the classic hard set of spoken-letter recognition (Fanty & Cole, 1991)."""


def label_of(letter: str) -> int:
    """Returns the label, 0 to 25, of a letter in either case.

    Raises:
        ValueError: if the text is not one of the 26 letters.
    """
    text = letter.strip().upper()
    if len(text) != 1 or text not in LETTERS:
        raise ValueError(f"expected one letter A to Z, found {reprlib.repr(letter)}")
    return LETTERS.index(text)
