from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmlp.data.manifest import SPLITS, Split
from speechmlp.data.splits import deal, split_by_speaker
from speechmlp.labels import LETTERS


def split(speakers: list[str], letters: str = "AB", valid: float = 0.1, test: float = 0.1) -> dict[str, Split]:
    spoken = [(speaker, letter) for speaker in speakers for letter in letters]
    return split_by_speaker([speaker for speaker, _ in spoken], [letter for _, letter in spoken], valid, test)


def test_splits_by_speaker_are_stable_and_proportional() -> None:
    speakers = [f"speaker{number}" for number in range(1000)]
    splits = split(speakers)
    counts = Counter(splits.values())
    assert 70 < counts["valid"] < 130
    assert 70 < counts["test"] < 130
    more = split([*speakers, *(f"new{number}" for number in range(500))])
    assert all(more[speaker] == splits[speaker] for speaker in speakers)
    assert split(speakers[::-1]) == splits


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_few_speakers_fill_every_split(count: int) -> None:
    assert set(split([f"s{number}" for number in range(count)]).values()) == set(SPLITS)


def test_a_split_of_fraction_0_is_empty() -> None:
    assert set(split([f"s{number}" for number in range(9)], valid=0.0).values()) == {"train", "test"}


def test_one_speaker_is_in_one_split() -> None:
    assert len(split(["anna", "anna"])) == 1


def test_each_letter_is_in_every_split() -> None:
    # One letter per speaker, as for files with unknown speakers: by chance most letters would be missing.
    speakers = [f"{letter}/{number}" for letter in LETTERS for number in range(5)]
    letters = [speaker[0] for speaker in speakers]
    splits = split_by_speaker(speakers, letters, 0.1, 0.1)
    assert {(splits[speaker], speaker[0]) for speaker in speakers} == {
        (s, letter) for s in SPLITS for letter in LETTERS
    }
    chance = split_by_speaker(speakers, ["A"] * len(speakers), 0.1, 0.1)
    moved = sum(splits[speaker] != chance[speaker] for speaker in speakers)
    assert 0 < moved < len(speakers) / 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(LETTERS[:4])), min_size=1, max_size=40))
def test_any_speakers_and_letters_are_split(spoken: list[tuple[str, str]]) -> None:
    speakers = [speaker for speaker, _ in spoken]
    splits = split_by_speaker(speakers, [letter for _, letter in spoken])
    assert set(splits) == set(speakers)
    if len(set(speakers)) >= 5:
        assert "train" in splits.values()


def test_speakers_are_divided_evenly_by_gender() -> None:
    genders: dict[str, str | None] = {f"f{number}": "female" for number in range(8)}
    genders |= {f"m{number}": "male" for number in range(8)}
    parts = deal(genders, 4)
    assert sorted(speaker for part in parts for speaker in part) == sorted(genders)
    assert [Counter(speaker[0] for speaker in part) for part in parts] == [{"f": 2, "m": 2}] * 4
