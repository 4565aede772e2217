"""The commands as people run them: real processes, real files."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from speechmlp.evaluation.results import Evaluation
from tests.conftest import ROOT, Run

SMALL = ["training.epochs=3", "model.hidden=[32]", "device=cpu"]
TRAIN = ["-m", "speechmlp.train", "--config"]
EVALUATE = ["-m", "speechmlp.evaluate"]


@pytest.fixture
def quickstart(synthetic_corpus: Path) -> list[str]:
    return [*TRAIN, str(ROOT / "configs" / "quickstart.yaml"), f"corpus.manifest={synthetic_corpus}", *SMALL]


def test_train_and_evaluate(quickstart: list[str], run_python: Run, tmp_path: Path) -> None:
    trained = run_python(*quickstart, "training.epochs=12")
    assert trained.returncode == 0, trained.stderr
    assert "epoch 12/12" in trained.stdout
    assert "(decoded)" in trained.stdout
    run = Path(re.search(r"^Run: (.+)$", trained.stdout, re.M)[1])  # type: ignore[index]
    names = {path.name for path in (tmp_path / run).iterdir()}
    assert names == {"config.yaml", "environment.json", "metrics.jsonl", "best.pt", "last.pt", ".lock"}
    resolved = yaml.safe_load((tmp_path / run / "config.yaml").read_text())
    assert resolved["model"]["hidden"] == [32]
    records = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 13))

    evaluated = run_python(*EVALUATE, "--json", "scores.json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"Checkpoint: {run}/best.pt (the newest run)" in evaluated.stdout
    accuracy = re.search(r"^Accuracy: ([\d.]+)% \(95% interval", evaluated.stdout, re.M)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert accuracy is not None
    found = scores["scores"]
    assert float(accuracy[1]) == pytest.approx(100 * found["accuracy"]["value"], abs=0.005)
    assert found["accuracy"]["value"] > 0.15  # chance is 0.04
    assert found["num_utterances"] == sum(map(sum, found["confusion"])) == 2 * 26
    assert scores["split"] == "test"
    assert Evaluation.model_validate(scores).temperature != 1.0
    assert f"Temperature: {scores['temperature']:.3f}, fitted" in trained.stdout

    valid = run_python(*EVALUATE, "--checkpoint", run / "best.pt", "--split", "valid", "--json", "valid.json")
    assert valid.returncode == 0, valid.stderr
    best = max(records, key=lambda record: (record["valid_accuracy"], -record["valid_loss"]))
    assert json.loads((tmp_path / "valid.json").read_text())["scores"]["accuracy"]["value"] == pytest.approx(
        best["valid_accuracy"]
    )
    assert f"epoch {best['epoch']}" in valid.stdout

    assert "Trained on" not in valid.stdout
    assert "For comparison: always A 3.85%, chance 3.85%, training letters " in valid.stdout
    last = run_python(*EVALUATE, "--checkpoint", run / "last.pt", "--split", "train", "--json", "train.json")
    assert last.returncode == 0, last.stderr
    assert f"Checkpoint: {run}/last.pt, epoch 12\n" in last.stdout
    known = Evaluation.model_validate_json((tmp_path / "train.json").read_text())
    assert known.trained_on == known.scores.num_utterances
    assert f"Trained on: {known.trained_on} of these {known.trained_on} letters" in last.stdout
    assert known.scores.accuracy.value == pytest.approx(records[-1]["train_accuracy"])

    again = run_python(*quickstart, "training.epochs=1")
    assert "(already decoded)" in again.stdout


def test_evaluate_takes_overrides_of_reading(spoken_checkpoint: Path, tone_corpus: Path, run_python: Run) -> None:
    shared = tone_corpus.with_name("shared.tsv")
    shared.write_text(tone_corpus.read_text().replace("\ts5\ttest", "\ts0\ttest"))
    evaluate = [*EVALUATE, "--checkpoint", spoken_checkpoint, "--manifest", shared]
    refused = run_python(*evaluate)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    advised = re.search(r"(\S+=true) allows it", refused.stderr)
    assert advised is not None
    for words in ([advised[1]], ["--group-by", "gender", "speaker", advised[1], "corpus.margin=0"]):
        allowed = run_python(*evaluate, *words)
        assert "Known voices: 1 speakers" in allowed.stdout, allowed.stderr
    mistakes = {
        "corpus.margn=0": "did you mean corpus.margin?",
        "model.hidden=[3]": "is not about reading recordings with a trained model",
        "corpus.margin=-1": "corpus.margin: expected",
        "corpus.margin": "expected key=value",
    }
    for word, expected in mistakes.items():
        wrong = run_python(*evaluate, word)
        assert wrong.returncode == 2
        assert len(wrong.stderr.splitlines()) == 1
        assert expected in wrong.stderr or (word == "corpus.margin" and "key.path=value" in wrong.stderr), wrong.stderr
    hint = run_python(*evaluate, "--margin", "0")
    assert "did you mean corpus.margin=0?" in hint.stderr


def test_the_packaged_model_needs_none_of_its_corpora(tone_corpus: Path, run_python: Run) -> None:
    found = run_python(*EVALUATE, "--checkpoint", "packaged", "--manifest", tone_corpus, "--json", "scores.json")
    assert found.returncode == 0, found.stderr
    assert re.search(r"^Checkpoint: \S+letters.pt$", found.stdout, re.M)  # without an epoch
    nothing = run_python(*EVALUATE, "--checkpoint", "packaged")
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (2, 1)
    assert "the corpus of the model in the package is not here; expected --manifest FILE" in nothing.stderr


def test_resuming_gives_the_uninterrupted_run(quickstart: list[str], run_python: Run, tmp_path: Path) -> None:
    quickstart = [*quickstart, "training.schedule={kind: constant}", "training.ema=0.9", "training.mixup=0.2"]
    quickstart += ["training.optimizer={kind: muon, lr: 0.003}"]
    assert run_python(*quickstart, "output.name=whole").returncode == 0
    assert (
        run_python(
            *quickstart, "output.name=part", "training.schedule={kind: constant}", "training.epochs=2"
        ).returncode
        == 0
    )
    resumed = run_python("-m", "speechmlp.train", "--resume", "runs/part", "training.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 3/3" in resumed.stdout
    assert "epoch 2/3" not in resumed.stdout
    whole, part = (torch.load(tmp_path / "runs" / name / "last.pt", weights_only=True) for name in ("whole", "part"))
    for one, same in ((whole["model"], part["model"]), (whole["training"]["model"], part["training"]["model"])):
        assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(whole["model"][name], whole["training"]["model"][name]) for name in whole["model"])
    assert len((tmp_path / "runs" / "part" / "metrics.jsonl").read_text().splitlines()) == 3
    done = run_python("-m", "speechmlp.train", "--resume", "runs/part")
    assert done.returncode == 2
    assert "training is over (all 3 epochs done); change what ended it" in done.stderr
    changed = run_python("-m", "speechmlp.train", "--resume", "runs/part", "model.hidden=[8]", "training.epochs=9")
    assert changed.returncode == 2
    assert "the overrides change the model or optimizer" in changed.stderr


def test_validation_speakers_can_be_learnt_in_the_end(quickstart: list[str], run_python: Run, tmp_path: Path) -> None:
    result = run_python(*quickstart, "training.epochs=2", "corpus.learn=train+valid")
    assert result.returncode == 2
    assert "training.keep: expected last with corpus.learn train+valid" in result.stderr
    alone = run_python(*quickstart, "training.epochs=1")
    result = run_python(*quickstart, "training.epochs=2", "corpus.learn=train+valid", "training.keep=last")
    assert result.returncode == 0, result.stderr
    fewer, more = (int(re.search(r": (\d+) training", run.stdout)[1]) for run in (alone, result))  # type: ignore[index]
    assert more == fewer + 2 * 26
    assert re.search(
        r"^Last: [\d.]+% of the validation letters, which were trained on too, epoch 2", result.stdout, re.M
    )


def test_ten_mistakes_end_in_one_line_and_status_2(synthetic_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    seed = str(ROOT / "configs" / "seed.yaml")
    (tmp_path / "twice.yaml").write_text("device: cpu\ndevice: cpu\n")
    (tmp_path / "tabs.yaml").write_text("training:\n\tepochs: 3\n")
    mistakes = [
        ([seed, "training.epoch=3"], "did you mean training.epochs?"),
        ([seed, "training.epochs=many"], "training.epochs: expected a valid integer, found 'many'"),
        ([seed, "training.optimizer.lr=-1"], "training.optimizer.lr: expected greater than 0, found -1"),
        ([seed, "model.activation=rely"], "model.activation: expected 'relu', 'tanh'"),
        ([seed, "epochs"], "command line: expected key.path=value, found 'epochs'"),
        (["absent.yaml"], "absent.yaml: no such config file"),
        (["twice.yaml"], "twice.yaml:2: duplicate key 'device'"),
        (["tabs.yaml"], "tabs.yaml:2: "),
        ([seed, "corpus.manifest=absent.tsv"], "absent.tsv: no such manifest; make one with"),
        ([seed, f"corpus.manifest={synthetic_corpus}", "device=cuda:7"], "device: "),
        ([seed, f"corpus.manifest={synthetic_corpus}", "output.folder=/proc/none"], "cannot write the run folder"),
    ]
    for arguments, expected in mistakes:
        result = run_python(*TRAIN, *arguments)
        assert result.returncode == 2, arguments
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert expected in result.stderr
    assert not (tmp_path / "runs").exists()


def test_options_of_other_programs_get_the_override_that_is_meant(run_python: Run, tmp_path: Path) -> None:
    config = ["--config", "seed"]
    mistakes = {
        ("--epochs", "3"): ["--epochs: unknown option; did you mean training.epochs=3?"],
        ("--epochs=3",): ["--epochs: unknown option; did you mean training.epochs=3?"],
        ("training.seed=1", "--lr", "1e-3", "--batch-size", "32"): [
            "--lr: unknown option; did you mean training.optimizer.lr=1e-3?",
            "--batch-size: unknown option; did you mean training.batch_size=32?",
        ],
        ("--batch_size", "32", "--continue"): ["--batch_size: unknown option; did you mean training.batch_size=32?"],
        ("--learning-rate=1e-3",): ["--learning-rate: unknown option; did you mean training.optimizer.lr=1e-3?"],
        ("--device", "cpu"): ["--device: unknown option; did you mean device=cpu?"],
        ("--output", "my runs"): ["--output: unknown option; did you mean 'output.folder=my runs'?"],
        ("--optimizer", "sgd"): ["--optimizer: unknown option; did you mean training.optimizer.kind=sgd?"],
        ("--front-end", "mfcc"): ["--front-end: unknown option; did you mean front_end.kind=mfcc?"],
        ("--data", "my.tsv"): ["--data: unknown option; did you mean corpus.manifest=my.tsv?"],
        ("--cuda", "training.seed=1"): ["--cuda: unknown option; did you mean device=...?"],
        ("--contine",): ["--contine: unknown option; did you mean --continue?"],
        ("-x", "1"): ["-x: unknown option; settings are given as key=value, as in training.epochs=20"],
    }
    for words, expected in mistakes.items():
        for command in ([*config, *words], [*words, *config], [*words]):
            result = run_python("-m", "speechmlp.train", *command)
            assert result.returncode == 2, command
            assert result.stderr.splitlines() == [f"error: command line: {line}" for line in expected]
    split = run_python("-m", "speechmlp.train", "training.epochs=0", *config, "training.seed=-1", "--continue")
    assert [line.partition(": expected")[0] for line in split.stderr.splitlines()] == [
        "error: command line: training.epochs",
        "error: command line: training.seed",
    ]
    assert not (tmp_path / "runs").exists()


def test_what_a_new_kind_drops_is_printed(quickstart: list[str], run_python: Run) -> None:
    result = run_python(*quickstart, "training.epochs=1", "training.optimizer.kind=sgd", "output.name=sgd")
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[0].startswith("note: training.optimizer.kind=sgd: dropped training.optimizer.")


def test_evaluate_tells_what_is_missing(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    nothing = run_python(*EVALUATE)
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (2, 1)
    assert "runs: contains no run with a best.pt" in nothing.stderr
    absent = run_python(*EVALUATE, "--checkpoint", "x.pt")
    assert (absent.returncode, len(absent.stderr.splitlines())) == (2, 1)
    run = run_python(*TRAIN, ROOT / "configs" / "quickstart.yaml", f"corpus.manifest={tone_corpus}", *SMALL)
    assert run.returncode == 0, run.stderr
    text = tone_corpus.read_text().replace("\ttest\t", "\ttrain\t")
    (tone_corpus.parent / "no_test.tsv").write_text(text)
    empty = run_python(*EVALUATE, "--manifest", tone_corpus.parent / "no_test.tsv")
    assert (empty.returncode, len(empty.stderr.splitlines())) == (2, 1)
    assert "no utterance of the manifest is in split 'test'; splits found: train, valid" in empty.stderr
    rows = [line.split("\t")[:3] for line in tone_corpus.read_text().splitlines()]
    (tone_corpus.parent / "all.tsv").write_text("\n".join("\t".join(row) for row in rows))
    whole = run_python(*EVALUATE, "--manifest", tone_corpus.parent / "all.tsv")
    assert "every utterance (it has no splits)" in whole.stdout
    assert "Utterances: 156 of 6 speakers" in whole.stdout
    shutil.copy(tone_corpus.parent / "s0" / "A.wav", tone_corpus.parent / "s1" / "A.wav")
    (tone_corpus.parent / "s1" / "B.wav").write_text("broken")
    skipped = run_python(*EVALUATE, "--manifest", tone_corpus.parent / "all.tsv", "--on-error", "skip")
    assert "Left out: 1 recordings" in skipped.stdout
    assert "Utterances: 155 of 6 speakers" in skipped.stdout
    limited = [*EVALUATE, "--manifest", tone_corpus.parent / "all.tsv", "--on-error", "skip", "--skip-limit", "0"]
    assert "1 of 156 recordings cannot be read, more than the fraction of 0 that" in run_python(*limited).stderr
    broken = run_python(*EVALUATE, "--manifest", tone_corpus.parent / "all.tsv")
    assert (broken.returncode, len(broken.stderr.splitlines())) == (2, 2)
    assert "1 of 156 recordings cannot be read" in broken.stderr
    assert "s1/B.wav: cannot be decoded" in broken.stderr


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_seed_runs_to_its_end(activation: str, synthetic_corpus: Path, run_python: Run) -> None:
    seed = [*TRAIN, str(ROOT / "configs" / "seed.yaml"), f"corpus.manifest={synthetic_corpus}"]
    result = run_python(*seed, f"model.activation={activation}")
    assert result.returncode == 0, result.stderr
    assert "epoch 10/10" in result.stdout
    assert "1,602,726 parameters" in result.stdout
