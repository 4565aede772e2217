"""Recognisers of others, on the clips that the models here get."""

import json
from pathlib import Path

import pytest
from scripts.release import evaluate_peer

from speechmlp.errors import UserError
from speechmlp.evaluation.results import Evaluation


def test_pocketsphinx_recognises_letters_and_its_scores_are_written(synthetic_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    target = tmp_path / "scores.json"
    arguments = ["pocketsphinx", "--manifest", str(synthetic_corpus), "--split", "valid", "--json", str(target)]
    assert evaluate_peer.main(arguments) == 0
    found = Evaluation.model_validate(json.loads(target.read_text(encoding="utf-8")))
    assert found.checkpoint == "PocketSphinx"
    assert found.scores.accuracy.value > 0.2  # synthetic voices are hard for it; chance is 4 %
    assert found.scores.top3 is None


def test_a_peer_that_cannot_be_installed_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = evaluate_peer.PEERS["whisper"]._replace(packages=("no such package",), modules=("no_such_module",))
    monkeypatch.setitem(evaluate_peer.PEERS, "whisper", absent)
    monkeypatch.setattr(evaluate_peer, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="whisper: pip failed: ") as failed:
        evaluate_peer.install("whisper")
    assert len(str(failed.value).splitlines()) == 1
    assert not (tmp_path / "whisper" / "installed").exists()
