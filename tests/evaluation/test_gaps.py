import re
from collections.abc import Sequence

import pytest
import torch

from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.results import Scores
from speechmlp.evaluation.text import format_scores


def scored(right: Sequence[bool], speakers: Sequence[str], kind: str, names: Sequence[str | None]) -> Scores:
    labels = torch.zeros(len(right), dtype=torch.int64)
    recognised = torch.tensor([0 if one else 1 for one in right])
    return score(torch.nn.functional.one_hot(recognised, 26).float(), labels, speakers, groups={kind: names})


def people(*accuracies: float, letters: int = 20) -> tuple[list[bool], list[str]]:
    """Returns letters of one speaker for each accuracy."""
    right = [index < round(accuracy * letters) for accuracy in accuracies for index in range(letters)]
    return right, [f"s{number}" for number in range(len(accuracies)) for _ in range(letters)]


def test_the_gap_is_between_the_best_and_the_worst_group_that_are_large_enough() -> None:
    right, speakers = people(0.9, 0.8, 0.6, 0.7, 0.75, 0.7, 0.1, 1.0)
    of = ["a", "a", "b", "b", "c", "c", "alone", "few"]
    names: list[str | None] = [of[int(name[1])] for name in speakers]
    names[-20:] = ["few"] * 5 + [None] * 15
    scores = scored(right, speakers, "accent", names)
    (gap,) = scores.gaps
    assert (gap.kind, gap.worst.name, gap.best.name) == ("accent", "b", "a")
    assert gap.difference.value == pytest.approx(0.2)
    assert gap.difference.low <= 0.2 <= gap.difference.high
    assert gap.difference.method == "bootstrap over 4 speakers"
    assert {group.name: group.num_speakers for group in scores.groups if group.kind == "accent"} == {
        "a": 2,
        "alone": 1,
        "b": 2,
        "c": 2,
        "few": 1,
    }
    text = format_scores(scores)
    assert re.search(
        r"^Gap by accent: 20\.00 points \(95% interval .*\); worst b 65\.00% of 40, best a 85\.00% of 40$", text, re.M
    )
    assert "too few to compare: alone 10.00% of 20 (1 speaker), few 100.00% of 5 (1 speaker)" in text
    assert text.index("Gap by accent") < text.index("Utterances:")


def test_two_speakers_tell_less_than_many() -> None:
    few = scored(*(two := people(0.9, 0.8, 0.6, 0.7)), "accent", ["a"] * 40 + ["b"] * 40).gaps[0].difference
    many = people(*[0.9, 0.8] * 6, *[0.6, 0.7] * 6)
    more = scored(*many, "accent", ["a"] * 240 + ["b"] * 240).gaps[0].difference
    assert two[1][0] == "s0"
    assert few.value == pytest.approx(more.value)
    assert few.high - few.low > 2 * (more.high - more.low)


def test_a_group_without_mistakes_still_has_an_uncertainty() -> None:
    right, speakers = people(1.0, 1.0, 0.9, 0.8)
    (gap,) = scored(right, speakers, "device", ["phone"] * 40 + ["laptop"] * 40).gaps
    assert gap.difference.value == pytest.approx(0.15)
    assert gap.difference.low < 0.1
    assert gap.difference.high > 0.15
    (none,) = scored([True] * 80, speakers, "device", ["phone"] * 40 + ["laptop"] * 40).gaps
    assert none.worst.name != none.best.name
    assert none.difference.low < none.difference.value == 0 < none.difference.high


def test_the_interval_of_the_gap_covers_the_true_one() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(60):
        accuracy = torch.cat(
            [torch.rand(8, generator=generator) * 0.3 + 0.6, torch.rand(8, generator=generator) * 0.3 + 0.3]
        )
        right = (torch.rand(16, 20, generator=generator) < accuracy[:, None]).flatten().tolist()
        speakers = [f"s{number}" for number in range(16) for _ in range(20)]
        (gap,) = scored(right, speakers, "accent", ["a"] * 160 + ["b"] * 160).gaps
        covered += gap.difference.low <= 0.3 <= gap.difference.high
    assert covered >= 53  # of 57 expected; fewer are improbable


def test_without_speakers_letters_are_enough() -> None:
    right = [True] * 15 + [False] * 5 + [True] * 12 + [False] * 8
    (gap,) = scored(right, ["unknown"] * 40, "room", ["hall"] * 20 + ["attic"] * 20).gaps
    assert gap.difference.value == pytest.approx(0.15)
    assert "ignores that speakers differ" in gap.difference.method
