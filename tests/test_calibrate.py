"""The command that stores a temperature."""

import json
from pathlib import Path

import pytest

from speechmlp.runs.checkpoint import load_checkpoint
from tests.conftest import Run


def test_temperatures_are_fitted_taken_over_and_given(tone_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}, learn: train+valid}}\ndevice: cpu\n"
        "front_end: {kind: log_mel, hop_length: 1600}\ntraining: {epochs: 3, keep: last}\n"
    )
    for name in ("one", "two"):
        trained = run_python("-m", "speechmlp.train", "--config", "small.yaml", f"output.name={name}")
        assert trained.returncode == 0, trained.stderr
        assert "Temperature" not in trained.stdout  # the model was trained on the validation set too
    one, two = (tmp_path / "runs" / name / "best.pt" for name in ("one", "two"))
    assert load_checkpoint(one).temperature == 1.0
    calibrate = ["-m", "speechmlp.calibrate", "--checkpoint"]
    fitted = run_python(*calibrate, one, "--manifest", tone_corpus, "--split", "test")
    assert fitted.returncode == 0, fitted.stderr
    assert fitted.stdout.startswith(f"Temperature: 1.000 -> {load_checkpoint(one).temperature:.3f}: ")
    assert load_checkpoint(one).temperature != 1.0
    first = load_checkpoint(one).temperature
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "some.tsv").write_text(  # without splits: all of it
        "path\tletter\n" + "".join(f"{tone_corpus.parent}/s5/{letter}.wav\t{letter}\n" for letter in "ABC")
    )
    both = run_python(*calibrate, one, "--manifest", tone_corpus, "other/some.tsv", "--split", "test", "--outside")
    assert both.returncode == 0, both.stderr
    assert load_checkpoint(one).temperature not in (1.0, first)
    for split in ("train", "valid"):  # it was trained on both
        known = run_python(*calibrate, one, "--manifest", tone_corpus, "--split", split)
        assert known.returncode == 2
        assert "expected 10 letters or more that the model was not trained on, found 0" in known.stderr
    rest = run_python(*calibrate, one, "--manifest", tone_corpus)  # of all splits
    assert rest.returncode == 0, rest.stderr
    assert "left out 130 of 156 letters, which the model was trained on" in rest.stderr
    found = load_checkpoint(one)
    assert found.temperature == first  # that of the test speaker alone
    assert found.calibration is not None
    assert found.calibration.letters == 26
    inside = run_python(*calibrate, one, "--manifest", "other/some.tsv")
    assert (inside.returncode, len(inside.stderr.splitlines())) == (2, 1)
    assert run_python(*calibrate, two, "--like", one).returncode == 0
    assert load_checkpoint(two).temperature == load_checkpoint(one).temperature
    assert load_checkpoint(two).reject_below == load_checkpoint(one).reject_below > 0
    assert run_python(*calibrate, two, "--temperature", "2").returncode == 0
    assert load_checkpoint(two).temperature == pytest.approx(2.0)
    for wrong in (["--temperature", "0"], ["--temperature", "nan"], ["--like", "absent.pt"]):
        result = run_python(*calibrate, two, *wrong)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    last = run_python(*calibrate, two.with_name("last.pt"), "--temperature", "2")
    assert last.returncode == 2
    assert "expected a best.pt" in last.stderr
    assert load_checkpoint(two).temperature == pytest.approx(2.0)
