import pytest
import torch

from speechmlp.audit.label_errors import FOLDS, cross_validate, doubt, folds_of


def test_folds_are_speaker_disjoint_and_of_equal_size() -> None:
    speakers = [f"s{number % 20}" for number in range(200)]
    folds = folds_of(speakers, [str(number) for number in range(200)])
    assert all(len(set(folds[speaker::20].tolist())) == 1 for speaker in range(20))
    assert torch.bincount(folds).tolist() == [40] * FOLDS
    # Unknown or too few speakers: by utterance.
    for few in (["unknown"] * 100, ["anna", "bob"] * 50):
        assert torch.bincount(folds_of(few, [str(number) for number in range(100)])).tolist() == [20] * FOLDS


def test_wrong_labels_are_the_most_doubtful_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(520) % 26
    centres = torch.randn(26, 30, generator=generator)
    features = centres[labels] + 0.3 * torch.randn(520, 30, generator=generator)
    changed = torch.randperm(520, generator=generator)[:15]
    given = labels.clone()
    given[changed] = (given[changed] + 1) % 26
    folds = folds_of([f"s{index // 26}" for index in range(520)], [str(index) for index in range(520)])
    probabilities = cross_validate(features.half(), given, folds)
    found = doubt(probabilities, given)
    assert set(found.margin.argsort(descending=True)[:15].tolist()) == set(changed.tolist())
    assert torch.equal(found.suggested[changed], labels[changed])
    assert found.confident[changed].all()
    assert found.confident.sum() <= 20
    assert torch.equal(cross_validate(features.half(), given, folds), probabilities)  # the same every time


def test_the_confident_joint_follows_its_definition() -> None:
    probabilities = torch.full((4, 26), 0.0)
    probabilities[:, :2] = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.85, 0.15]])
    found = doubt(probabilities, torch.tensor([0, 0, 1, 1]))
    # Thresholds: (0.9 + 0.6) / 2 = 0.75 for A, (0.8 + 0.15) / 2 = 0.475 for B; only the last is an A by that.
    assert found.confident.tolist() == [False, False, False, True]
    assert found.margin.tolist() == pytest.approx([-0.8, -0.2, -0.6, 0.7])
    assert found.suggested.tolist() == [1, 1, 0, 0]
