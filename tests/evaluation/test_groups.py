import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.evaluation.durations import letter_seconds
from speechmlp.evaluation.groups import find_groups, group_columns, in_order
from speechmlp.evaluation.results import Evaluation
from tests.conftest import Run


def test_genders_are_what_the_manifest_says() -> None:
    lengths, power = torch.tensor([0.1, 0.3]), torch.tensor([0.0, 1e-3])
    mary = Utterance(Path("a.wav"), "A", "mary", gender="female")
    unknown = Utterance(Path("b.wav"), "B", "unknown", gender="unknown")
    assert find_groups([mary, unknown], lengths, power)["gender"] == ["female", None]
    assert "gender" not in find_groups([unknown, unknown], lengths, power)


def test_every_utterance_has_a_duration_and_a_loudness() -> None:
    utterances = [Utterance(Path("b.wav"), "B", "unknown")] * 3
    groups = find_groups(utterances, torch.tensor([0.1, 0.3, 1.0]), torch.tensor([0.0, 1e-3, 0.1]))
    assert groups == {
        "duration": ["under 0.25 s", "0.25 to 0.4 s", "0.4 s and over"],
        "loudness": ["under -40 dBFS", "-40 to -25 dBFS", "-25 dBFS and over"],
    }


def test_columns_of_the_manifest_are_groups(
    run_python: Run, spoken_checkpoint: Path, synthetic_corpus: Path, tmp_path: Path
) -> None:
    utterances = [one for one in read_manifest(synthetic_corpus) if one.split == "test"]
    groups = [{"accent": ("near", "far")[index % 2], "room": "hall"} for index in range(len(utterances))]
    told = [replace(one, groups=group) for one, group in zip(utterances, groups, strict=True)]
    manifest = synthetic_corpus.with_name("grouped.tsv")
    write_manifest(manifest, told)
    command = ["-m", "speechmlp", "evaluate", "--checkpoint", spoken_checkpoint, "--manifest", manifest]
    default = run_python(*command, "--json", "scores.json")
    assert default.returncode == 0, default.stderr
    assert re.search(
        r"^By accent: far [\d.]+% of \d+ \(\d+% rejected\), near [\d.]+% of \d+ \(\d+% rejected\)$",
        default.stdout,
        re.M,
    )
    assert "room" not in default.stdout
    scores = Evaluation.model_validate_json((tmp_path / "scores.json").read_text()).scores
    (gap,) = (one for one in scores.gaps if one.kind == "accent")
    difference = gap.difference
    assert difference.low <= difference.value <= difference.high
    shown = " to ".join(f"{100 * value:.2f}" for value in (difference.low, difference.high))
    assert f"Gap by accent: {100 * difference.value:.2f} points (95% interval {shown}, " in default.stdout
    rooms = run_python(*command, "--group-by", "Room", "--group-by", "gender", "--json", "rooms.json")
    assert rooms.returncode == 0, rooms.stderr
    assert "By room: hall " in rooms.stdout
    assert "Gap by room" not in rooms.stdout  # there is only one
    assert "By accent" not in rooms.stdout
    always = run_python(*command, "--group-by", "gender", "speaker")
    assert always.returncode == 0, always.stderr
    wrong = run_python(*command, "--group-by", "acent")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(
        "error: group by 'acent': no such column in the manifest, or no value in it; did you"
    )
    assert len(wrong.stderr.splitlines()) == 1


def grouped(column: str, values: list[str | None], speakers: int = 7) -> list[str | None]:
    """Returns the groups of utterances whose column has these values, spoken by several speakers in turn."""
    utterances = [
        Utterance(Path("a.wav"), "A", f"s{index % speakers}", groups={} if value is None else {column: value})
        for index, value in enumerate(values)
    ]
    count = len(values)
    return list(find_groups(utterances, torch.ones(count), torch.ones(count), [column])[column])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([str(age) for age in range(20, 33)], ["under 25", "25 to 29", "30 and over"]),
        (["23", "31", "45", "67"], ["under 30", "30 to 39", "40 to 49", "60 and over"]),
        (["18", "80", "44", "50", "61", "33"], ["under 20", "20 to 39", "40 to 59", "60 to 79", "80 and over"]),
        (["20", "21"], ["under 21", "21 and over"]),
        (["30"] * 9, ["30"]),
        (["1", "2", "3"] * 20, ["1", "2", "3"]),  # few values, each with enough letters
        (["8000"] * 30 + ["44100"] * 90 + ["48000"], ["8000", "44100", "48000"]),
        (["-10", "-5", "0", "5", "10", "20"] * 5, ["under 0", "0 to 9", "10 to 19", "20 and over"]),
        (["0.1", "0.5", "1.2", "3.3", "2.2", "5"], ["under 2", "2 to 4", "4 and over"]),
        (["999", *map(str, range(20, 28))] * 9, None),  # one far away from all others
        (["1e-9", "2e-9", "3e-9", "4e-9", "5e-9", "7e-9"], None),
        (["1", "2", "3", "1000000000000", "5000000000000000"] * 2, None),
    ],
)
def test_numbers_become_bands_in_order(values: list[str], names: list[str] | None) -> None:
    found = grouped("age", [*values, None, "unknown"])
    assert found[-2:] == [None, None]
    bands = in_order({name for name in found if name is not None})
    assert names is None or bands == names
    assert len(bands) <= 5
    values_of = {band: [float(v) for v, name in zip(values, found, strict=False) if name == band] for band in bands}
    ends = [(min(inside), max(inside)) for inside in values_of.values()]
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_texts_that_look_alike_are_one_group() -> None:
    found = grouped("accent", ["Indian", "indian", "Indian", " indian", "Indo-English", None, "unknown"])
    assert found == ["Indian"] * 4 + ["Indo-English", None, None]
    assert grouped("age", ["18-25", "26-35", "60+", "unknown"]) == ["18-25", "26-35", "60+", None]


def test_groups_are_in_order() -> None:
    assert in_order(["0.4 s and over", "under 0.25 s", "0.25 to 0.4 s"]) == [
        "under 0.25 s",
        "0.25 to 0.4 s",
        "0.4 s and over",
    ]
    assert in_order(["-25 dBFS and over", "-40 to -25 dBFS", "under -40 dBFS"])[0] == "under -40 dBFS"
    assert in_order(["60+", "26-35", "<18", "18-25"]) == ["<18", "18-25", "26-35", "60+"]
    assert in_order(["room 10", "Room 2", "attic"]) == ["attic", "Room 2", "room 10"]
    assert in_order(["²", "b", "1"]) == ["1", "b", "²"]


def test_columns_are_found_in_any_case() -> None:
    utterances = [Utterance(Path("a.wav"), "A", "s", groups={"Accent": "x", "Native Language": "y"})]
    assert group_columns(utterances, None) == ["Accent"]
    assert group_columns(utterances, ["nativelanguage", "ACCENT", "accent", "Speaker"]) == ["Native Language", "Accent"]


def test_durations_are_those_of_the_letters_and_not_of_what_is_around_them(tmp_path: Path) -> None:
    rate, generator = 16_000, np.random.default_rng(0)
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(3 * rate) / rate) * (1 + np.sin(np.arange(3 * rate) / 500))
    noise = 1e-4 * generator.standard_normal(3 * rate)
    soundfile.write(tmp_path / "long.wav", tone, rate)
    for name, seconds in (("short", 0.2), ("middle", 0.5)):
        padded = noise[:rate].copy()
        padded[6000 : 6000 + round(seconds * rate)] += tone[: round(seconds * rate)]
        soundfile.write(tmp_path / f"{name}.wav", padded, rate)
    soundfile.write(tmp_path / "tight.wav", tone[: round(0.3 * rate)], rate)
    lines = [
        ("long.wav", 1.0, 1.3, ""),
        ("long.wav", 0.0, 0.2, "0.4"),  # the margin begins before the recording
        ("long.wav", 0.5, 2.0, "0"),  # longer than the second that is used
        ("tight.wav", 0.1, 9.0, "0"),  # ends after the recording
        ("short.wav", "", "", ""),
        ("middle.wav", "", "", ""),
        ("tight.wav", "", "", ""),
    ]
    rows = "".join(f"{path}\tA\ts\t{start}\t{end}\t{margin}\n" for path, start, end, margin in lines)
    (tmp_path / "m.tsv").write_text("path\tletter\tspeaker\tstart\tend\tmargin\n" + rows)
    found = letter_seconds(SpokenLetters.from_manifest(tmp_path / "m.tsv", cache=tmp_path / "cache")).tolist()
    assert found[:4] == pytest.approx([0.3, 0.2, 1.5, 0.2], abs=0.001)
    assert found[4:6] == pytest.approx([0.2, 0.5], abs=0.05)
    assert 0.2 < found[6] <= 0.3
