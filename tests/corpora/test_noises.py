"""The generated non-letters."""

from pathlib import Path

import pytest
import soundfile

from speechmlp.corpora.noises import KINDS, TEST_ONLY, prepare_noises
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError
from tests.conftest import Run


def test_every_kind_is_a_second_of_finite_sound_determined_by_the_seed(tmp_path: Path) -> None:
    once, again, other = (
        prepare_noises(tmp_path / name, sources=10, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert len(once) == 10 * len(KINDS)
    for one, same, different in zip(once, again, other, strict=True):
        samples, rate = soundfile.read(one.path)
        assert (rate, samples.shape) == (16_000, (16_000,))
        assert one.path.read_bytes() == same.path.read_bytes()
        if "silence" not in one.speaker:
            assert abs(samples).max() > 1e-3
            assert one.path.read_bytes() != different.path.read_bytes()


def test_some_kinds_are_in_the_test_split_only(tmp_path: Path) -> None:
    utterances = prepare_noises(tmp_path / "noises", sources=20)
    trained = {utterance.path.parent.name for utterance in utterances if utterance.split == "train"}
    assert trained == set(KINDS) - TEST_ONLY
    assert {utterance.path.parent.name for utterance in utterances if utterance.split == "test"} == set(KINDS)
    with pytest.raises(UserError, match="expected one letter A to Z, found '-'"):
        read_manifest(tmp_path / "noises" / "non_letters.tsv")


def test_the_command(run_python: Run, tmp_path: Path) -> None:
    script = ["-m", "speechmlp", "prepare", "noises"]
    result = run_python(*script, "--sources", "3", "--output", "noises")
    assert result.returncode == 0, result.stderr
    assert f"Noises: {3 * len(KINDS)} seconds" in result.stdout
    wrong = run_python(*script, "--sources", "2", "--output", "other")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "other").exists()
