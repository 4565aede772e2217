"""Training and evaluating from Python, as the commands do it."""

from pathlib import Path

import pytest

from speechmlp.config.loading import load_config
from speechmlp.data.manifest import read_manifest, write_manifest
from speechmlp.errors import UserError
from speechmlp.evaluation.run import evaluate
from speechmlp.runs.checkpoint import load_checkpoint
from speechmlp.training.distributed import ALONE
from speechmlp.training.resume import resume
from speechmlp.training.run import fit


def test_fit_and_evaluate_are_functions(tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["front_end={kind: log_mel, hop_length: 1600}", "model.hidden=[8]", "training.epochs=2", "device=cpu"]
    where = [f"corpus.manifest={tone_corpus}", f"corpus.cache={tmp_path / 'cache'}", f"output.folder={tmp_path}"]
    trained = fit(load_config(None, [*overrides, *where, "output.name=mine"]))
    assert trained.run == tmp_path / "mine"
    assert trained.signal is None
    assert [record.epoch for record in trained.history] == [1, 2]
    assert "epoch 2/2" in capsys.readouterr().out
    assert load_checkpoint(trained.run / "last.pt").history == list(trained.history)

    lines: list[str] = []
    evaluation = evaluate(runs=tmp_path, split="valid", device="cpu", log=lines.append)
    best = max(trained.history, key=lambda record: (record.valid_accuracy, -record.valid_loss))
    assert evaluation.scores.accuracy.value == pytest.approx(best.valid_accuracy)
    assert lines[0] == f"Checkpoint: {tmp_path}/mine/best.pt (the newest run), epoch {best.epoch}"
    assert evaluation == evaluate(trained.run / "best.pt", manifest=tone_corpus, split="valid", device="cpu")
    assert capsys.readouterr().out == ""

    with pytest.raises(UserError, match="training is over"):
        fit(resume(trained.run, [], ALONE))
    longer = fit(resume(trained.run, ["training.epochs=3"], ALONE))
    assert longer.run == trained.run
    assert len(longer.history) == 3


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_corpora_of_a_few_letters_are_trained_on(tone_corpus: Path, tmp_path: Path, kept: int) -> None:
    utterances = read_manifest(tone_corpus)
    of_split = {split: [one for one in utterances if one.split == split] for split in ("train", "valid")}
    write_manifest(tone_corpus, [*of_split["train"][:kept], of_split["valid"][0]])
    overrides = ["front_end={kind: log_mel, hop_length: 1600}", "training={epochs: 1, batch_size: 2}", "device=cpu"]
    where = [f"corpus.manifest={tone_corpus}", f"corpus.cache={tmp_path / 'cache'}", f"output.folder={tmp_path}"]
    layer, batch = (load_config(None, [*overrides, *where, f"model.norm={norm}"]) for norm in ("layer", "batch"))
    assert len(fit(layer).history) == 1
    if kept > 1:
        assert len(fit(batch).history) == 1
        return
    runs = sorted(tmp_path.glob("run*"))
    with pytest.raises(UserError, match=r"expected 2 or more training utterances with model\.norm batch, found 1; add"):
        fit(batch)
    assert sorted(tmp_path.glob("run*")) == runs
