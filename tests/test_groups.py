import torch

from speechmlp.groups import find_groups, genders


def test_gender_is_told_by_corpora_whose_names_tell_it() -> None:
    assert genders(["fbbh", "mcel", "fcmc0", "m8"]) == ["female", "male", "female", "male"]
    assert genders(["fbbh", "anna"]) is None
    assert genders(["mary", "fred"]) == ["male", "female"]  # cannot be told from AN4's names
    assert genders(["speaker1", "f1"]) is None


def test_every_utterance_has_a_duration_and_a_loudness() -> None:
    groups = find_groups(["anna", "bob", "eve"], torch.tensor([2000, 5000, 16_000]), torch.tensor([0.0, 1e-3, 0.1]))
    assert groups == {
        "duration": ["under 0.25 s", "0.25 to 0.4 s", "0.4 s and longer"],
        "loudness": ["under -40 dBFS", "-40 to -25 dBFS", "-25 dBFS and louder"],
    }
