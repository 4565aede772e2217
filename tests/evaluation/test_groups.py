from pathlib import Path

import torch

from speechmlp.data.manifest import Utterance
from speechmlp.evaluation.groups import find_groups


def test_genders_are_what_the_manifest_says() -> None:
    lengths, power = torch.tensor([2000, 5000]), torch.tensor([0.0, 1e-3])
    mary = Utterance(Path("a.wav"), "A", "mary", gender="female")
    unknown = Utterance(Path("b.wav"), "B", "unknown")
    assert find_groups([mary, unknown], lengths, power)["gender"] == ["female", None]
    assert "gender" not in find_groups([unknown, unknown], lengths, power)


def test_every_utterance_has_a_duration_and_a_loudness() -> None:
    utterances = [Utterance(Path("b.wav"), "B", "unknown")] * 3
    groups = find_groups(utterances, torch.tensor([2000, 5000, 16_000]), torch.tensor([0.0, 1e-3, 0.1]))
    assert groups == {
        "duration": ["under 0.25 s", "0.25 to 0.4 s", "0.4 s and longer"],
        "loudness": ["under -40 dBFS", "-40 to -25 dBFS", "-25 dBFS and louder"],
    }
