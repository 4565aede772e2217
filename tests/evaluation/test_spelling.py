"""Scores of spelled words, compared with values computed by hand."""

import pytest

from speechmlp.evaluation.spelling import compare_words, edit_distance, edits, format_spelling, score_spelling


@pytest.mark.parametrize(
    ("spoken", "recognised", "expected"),
    [
        ("SMITH", "SMITH", (0, 0, 0)),
        ("SMITH", "SMYTH", (0, 0, 1)),
        ("SMITH", "SMTH", (1, 0, 0)),
        ("SMITH", "SMIITH", (0, 1, 0)),
        ("ABC", "", (3, 0, 0)),
        ("", "ABC", (0, 3, 0)),
        ("LLAMA", "LAMAX", (1, 1, 0)),
    ],
)
def test_errors_are_told_apart(spoken: str, recognised: str, expected: tuple[int, int, int]) -> None:
    assert edits(spoken, recognised) == expected


def test_edit_distances() -> None:
    pairs = [("SMITH", "SMITH", 0), ("SMITH", "SMYTH", 1), ("", "ABC", 3), ("KITTEN", "SITTING", 3), ("AB", "BA", 2)]
    for one, other, distance in pairs:
        assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_rates_of_groups_and_the_worst_words() -> None:
    words = compare_words(
        ["ABCD", "ABCD", "EF", "GH"], ["ABCD", "ABC", "EFX", "GH"], ["s1", "s1", "s2", "s3"], ["1", "2", "3", "4"]
    )
    scores = score_spelling(words, {"accent": ["Indian", "Indian", "American", None]})
    assert scores.letter_error_rate.value == pytest.approx(2 / 12)
    assert scores.letter_error_rate.low < 2 / 12 < scores.letter_error_rate.high
    assert [scores.missing, scores.added, scores.replaced] == pytest.approx([1 / 12, 1 / 12, 0])
    assert (scores.num_words, scores.num_letters, scores.num_speakers) == (4, 12, 3)
    assert scores.words_right.value == 0.5
    rates = {(one.kind, one.name): (one.letters, one.error_rate.value) for one in scores.groups}
    assert rates["accent", "Indian"] == (8, 1 / 8)
    assert rates["accent", "American"] == (2, 1 / 2)
    assert rates["speaker", "s3"] == (2, 0)
    assert [word.id for word in scores.words] == ["3", "2", "1", "4"]
    text = format_spelling(scores)
    assert "Letter error rate: 16.67% (95% interval" in text
    assert "By accent, the worst first: American 50.00% of 2, Indian 12.50% of 8" in text
    assert "  EF -> EFX  s2  3" in text
    assert "GH -> GH" not in text


def test_a_rate_may_be_above_one() -> None:
    scores = score_spelling(compare_words(["A"], ["BCD"], ["s"], ["1"]))
    assert scores.letter_error_rate.value == 3
    assert "A -> BCD" in format_spelling(scores)
