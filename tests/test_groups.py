import torch

from speechmlp.groups import find_groups


def test_genders_are_what_the_manifest_says() -> None:
    lengths, power = torch.tensor([2000, 5000]), torch.tensor([0.0, 1e-3])
    assert find_groups(["female", None], lengths, power)["gender"] == ["female", None]
    assert "gender" not in find_groups([None, None], lengths, power)


def test_every_utterance_has_a_duration_and_a_loudness() -> None:
    groups = find_groups([None] * 3, torch.tensor([2000, 5000, 16_000]), torch.tensor([0.0, 1e-3, 0.1]))
    assert groups == {
        "duration": ["under 0.25 s", "0.25 to 0.4 s", "0.4 s and longer"],
        "loudness": ["under -40 dBFS", "-40 to -25 dBFS", "-25 dBFS and louder"],
    }
