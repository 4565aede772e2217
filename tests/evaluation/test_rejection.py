"""Training to be unsure about non-letters, and rejecting them."""

import json
from pathlib import Path

import pytest
import torch

from speechmlp.config.schema import CorpusConfig
from speechmlp.corpora.noises import prepare_noises
from speechmlp.data.dataset import load_negatives
from speechmlp.errors import UserError
from speechmlp.evaluation.calibration import REJECTED, fit_reject_below
from speechmlp.evaluation.metrics import score_rejection
from speechmlp.evaluation.results import Evaluation
from speechmlp.runs.checkpoint import load_checkpoint
from tests.conftest import Run


def test_the_threshold_declines_one_letter_in_twenty() -> None:
    logits = torch.randn(2000, 26, generator=torch.Generator().manual_seed(0)) * 3
    threshold = fit_reject_below(logits)
    assert (logits.softmax(1).amax(1) < threshold).float().mean().item() == pytest.approx(REJECTED, abs=1e-3)


def test_rejection_is_scored_by_kind() -> None:
    sure, unsure = 10 * torch.eye(26), torch.zeros(6, 26)
    unsure[0, 0] = 12  # one noise is taken for a letter
    rejection = score_rejection(sure, unsure, ["hum"] * 3 + ["word"] * 3, reject_below=0.5, temperature=1.0)
    assert rejection.letters_declined == 0
    assert rejection.others_declined == pytest.approx(5 / 6)
    assert rejection.others_declined_at_5_percent == pytest.approx(5 / 6)
    assert rejection.roc_area == pytest.approx(5 / 6)
    assert [(kind.name, kind.count) for kind in rejection.kinds] == [("hum", 3), ("word", 3)]
    assert [kind.declined for kind in rejection.kinds] == pytest.approx([2 / 3, 1.0])
    at_ten = score_rejection(sure, unsure, ["hum"] * 6, reject_below=0.5, temperature=100.0)
    assert at_ten.letters_declined == 1  # a high temperature makes everything unsure


@pytest.mark.parametrize("gate", ["true", "false"])
def test_a_model_is_trained_to_reject_noise(gate: str, tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    prepare_noises(tmp_path / "noises", sources=20)
    negatives = json.dumps(str(tmp_path / "noises" / "non_letters.tsv"))
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}, negatives: [{{manifest: {negatives}, weight: 1.0}}]}}\n"
        "device: cpu\nfront_end: {kind: log_mel, hop_length: 800}\n"
        f"model: {{hidden: [64], gate: {gate}}}\n"
        "training: {epochs: 25, optimizer: {lr: 2e-3}}\n"
    )
    trained = run_python("-m", "speechmlp.train", "--config", "small.yaml", "output.name=rejects")
    assert trained.returncode == 0, trained.stderr
    best = load_checkpoint(tmp_path / "runs" / "rejects" / "best.pt")
    assert 0 < best.reject_below < 1
    assert f"Rejects below a probability of {best.reject_below:.3f}: of the 26 validation letters " in trained.stdout
    evaluated = run_python("-m", "speechmlp.evaluate", "--json", "scores.json")  # negatives by the model's own config
    assert evaluated.returncode == 0, evaluated.stderr
    evaluation = Evaluation.model_validate_json((tmp_path / "scores.json").read_text())
    assert evaluation.rejection is not None
    assert evaluation.rejection.roc_area > 0.8  # beeps among the noises are tones too
    assert f"Rejected below a probability of {best.reject_below:.3f}: " in evaluated.stdout
    assert evaluation.scores.num_utterances == 26  # noises are not among the letters
    if gate == "false":
        return
    noisy = run_python("-m", "speechmlp.evaluate", "--condition", "babble_0db", "--json", "noisy.json")
    assert noisy.returncode == 0, noisy.stderr
    in_noise = Evaluation.model_validate_json((tmp_path / "noisy.json").read_text()).rejection
    assert in_noise is not None
    assert in_noise.roc_area != evaluation.rejection.roc_area  # in the same condition as the letters
    none = run_python("-m", "speechmlp.evaluate", "--negatives", "--json", "none.json")
    assert none.returncode == 0, none.stderr
    assert Evaluation.model_validate_json((tmp_path / "none.json").read_text()).rejection is None


def test_kinds_are_the_first_folders_and_letters_are_refused(tone_corpus: Path, tmp_path: Path) -> None:
    prepare_noises(tmp_path / "noises", sources=3)
    corpus = CorpusConfig(cache=str(tmp_path / "cache"))
    parts, kinds = load_negatives(corpus, [str(tmp_path / "noises" / "non_letters.tsv")], None)
    assert len(parts[0]) == len(kinds)
    assert kinds[:4] == ["silence", "silence", "silence", "coloured"]
    assert set(parts[0].labels.tolist()) == {26}
    (tmp_path / "noises" / "silence").rename(tmp_path / "noises" / "wav")  # corpora with one kind have such a folder
    manifest = tmp_path / "noises" / "non_letters.tsv"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("silence/", "wav/"), encoding="utf-8")
    assert load_negatives(corpus, [str(manifest)], None)[1][:4] == ["noises", "noises", "noises", "coloured"]
    with pytest.raises(
        UserError, match=r"absent\.tsv: no such manifest of recordings without a letter.*prepare noises"
    ):
        load_negatives(corpus, [str(tmp_path / "absent.tsv")], None)
    with pytest.raises(UserError, match="expected '-' as the letter of a non-letter, found 'A'"):
        load_negatives(corpus, [str(tone_corpus)], None)
