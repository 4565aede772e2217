import pytest

from speechmlp.labels import E_SET, LETTERS, label_of


def test_labels_are_positions_in_the_alphabet() -> None:
    assert [label_of(letter) for letter in LETTERS] == list(range(26))
    assert label_of(" q\n") == label_of("Q") == 16
    assert set(E_SET) == set("BCDEGPTVZ")


@pytest.mark.parametrize("text", ["", "AB", "NO", "1", "é", "ß", "hi"])
def test_other_texts_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="one letter A to Z"):
        label_of(text)
    assert text not in LETTERS
