import torch

from speechmlp.evaluation.metrics import score
from speechmlp.evaluation.text import format_scores


def test_the_first_line_is_the_accuracy_in_the_seeds_form() -> None:
    labels = torch.arange(26)
    recognised = labels.clone()
    recognised[1] = 3
    scores = score(torch.nn.functional.one_hot(recognised, 26).float(), labels, ["x", "y"] * 13)
    lines = format_scores(scores).splitlines()
    assert lines[0].startswith("Accuracy: 96.15% (95% interval ")
    assert lines[0].endswith("bootstrap over 2 speakers)")
    assert "Utterances: 26 of 2 speakers" in lines
    assert any(line.startswith("E-set accuracy (B C D E G P T V Z): 88.89% (95% interval ") for line in lines)
    assert any(line.startswith("By speaker: worst ") for line in lines)
    assert lines[-1].strip() == "B -> D 1x"
    assert "B   0.0% (0/1)" in format_scores(scores)


def test_nothing_is_said_of_confusions_that_did_not_happen() -> None:
    labels = torch.tensor([0])
    text = format_scores(score(torch.nn.functional.one_hot(labels, 26).float(), labels, ["x"]))
    assert "confusions" not in text
    assert "E-set" not in text
    assert "1 of 1 speaker\n" in text
