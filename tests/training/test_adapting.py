"""Adapting a model to a voice, from real files to a checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.adapt import main
from speechmlp.config.loading import load_config
from speechmlp.data.dataset import DeviceCorpus
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.evaluate import main as evaluate
from speechmlp.labels import LETTERS
from speechmlp.models import inference
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.predict import main as predict
from speechmlp.runs.checkpoint import PACKAGED, load_checkpoint
from speechmlp.training.adapting import Cancelled, adapt
from speechmlp.training.voice import hold_out
from tests.conftest import tone

ALONE = ["corpus.mix=[]", "training.epochs=1", "device=cpu"]
Write = Callable[..., Path]


def _voices(corpus: Path) -> list[str]:
    return sorted({utterance.speaker for utterance in read_manifest(corpus)})


@pytest.fixture
def write_takes(synthetic_corpus: Path, tmp_path: Path) -> Write:
    """Writes letters of a voice as a folder: the recording, and if there are more takes, slower ones."""

    def write(takes: int = 2, letters: Sequence[str] = LETTERS, speaker: int = 0, name: str = "anna") -> Path:
        voice = _voices(synthetic_corpus)[speaker]
        for utterance in read_manifest(synthetic_corpus):
            if utterance.speaker == voice and utterance.letter in letters:
                samples, rate = soundfile.read(utterance.path)
                for take in range(takes):
                    path = tmp_path / "takes" / utterance.letter.lower() / f"{name}_nohash_{take}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, samples * (0.9**take), round(rate * (1 - 0.03 * take)))
        return tmp_path / "takes"

    return write


def _run(folder: Path, *arguments: str) -> int:
    return main([str(folder), *ALONE, "--output", str(folder.parent / "new.pt"), *arguments])


def test_a_voice_is_adapted_to_and_its_model_recognises(write_takes: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_takes(takes=3, letters=LETTERS[:20])
    assert _run(folder) == 0
    shown = capsys.readouterr()
    assert "Voice: anna, adapted to 40 takes" in shown.out
    assert "Never recorded, so not adapted to: U V W X Y Z" in shown.out
    assert "takes that were held out" in shown.out
    assert "Everybody else: not measured" in shown.out
    adapted, start = load_checkpoint(folder.parent / "new.pt"), load_checkpoint(PACKAGED)
    assert adapted.temperature >= start.temperature
    assert adapted.reject_below <= start.reject_below
    changed = [
        name for name, weight in start.model.state_dict().items() if (weight - adapted.model.state_dict()[name]).any()
    ]
    assert changed
    assert all(name.startswith("network.") for name in changed)
    assert predict(["--checkpoint", str(folder.parent / "new.pt"), str(folder / "a" / "anna_nohash_0.wav")]) == 0
    assert capsys.readouterr().out.split()[-1]
    mine = folder.parent / "mine.tsv"
    write_manifest(mine, [Utterance(path, path.parent.name.upper(), "anna") for path in sorted(folder.glob("*/*.wav"))])
    reading = ["--manifest", str(mine), f"corpus.cache={folder.parent / 'cache'}", "device=cpu"]
    assert evaluate(["--checkpoint", str(folder.parent / "new.pt"), *reading]) == 0
    assert "Trained on: 40 of these 60 letters" in capsys.readouterr().out
    again = ["training.start_from=" + str(folder.parent / "new.pt")]
    assert main([str(folder), *ALONE, *again, "--output", str(folder.parent / "again.pt")]) in (0, 1)


def test_what_cannot_be_measured_is_said(write_takes: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(write_takes(takes=1)) in (0, 1)
    shown = capsys.readouterr().out
    assert "This voice: not measured, because no letter has two takes" in shown
    assert "(no measure of new takes)" in shown


def test_a_model_that_got_worse_is_not_kept(write_takes: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_takes()
    (folder.parent / "new.pt").write_bytes(b"an earlier one")
    assert _run(folder, "training.optimizer.lr=1") == 1
    assert "Not kept: the takes held out are not recognised better" in capsys.readouterr().out
    assert (folder.parent / "new.pt").read_bytes() == b"an earlier one"


def test_a_model_that_forgets_everybody_else_is_not_kept(
    write_takes: Write, synthetic_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechmlp.training.adapting.MIXTURES", (1.0,))
    mix = f"corpus.mix=[{{manifest: {synthetic_corpus}, weight: 0.2}}]"
    harsh = ["training.optimizer.lr=0.1", f"corpus.cache={tmp_path / 'cache'}", *ALONE[1:], mix]
    found = adapt(write_takes(), config=load_config("adapt", harsh), output=tmp_path / "new.pt")
    assert found.refused == "more than 0.3 % of everybody else's letters would be lost"
    assert found.others is not None
    assert found.others.before == found.others.after  # the starting model stays
    assert found.checkpoint is None
    assert not (tmp_path / "new.pt").exists()


def test_each_model_predicts_the_takes_once(write_takes: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[SpeechClassifier, DeviceCorpus]] = []

    def counted(model: SpeechClassifier, corpus: DeviceCorpus) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append((model, corpus))
        return inference.predict(model, corpus)

    monkeypatch.setattr("speechmlp.training.voice.predict", counted)
    found = adapt(write_takes(takes=3, letters=LETTERS[:20]), config=load_config("adapt", ALONE))
    assert found.checkpoint is not None
    assert len(calls) == len({(id(model), id(corpus)) for model, corpus in calls})
    # The starting model and the chosen one both takes, the other mixture those that were held out.
    assert len(calls) == 2 + 2 + 1


def _change(folder: Path, letter: str, samples: np.ndarray) -> None:
    soundfile.write(next((folder / letter).iterdir()), samples, 16_000)


def _all(folder: Path, make: Callable[[int], np.ndarray]) -> None:
    for number, path in enumerate(sorted(folder.glob("*/*"))):
        soundfile.write(path, make(number), 16_000)


def _shift_labels(folder: Path) -> None:
    for letter in "abcdefghijklmnopqrstuvwxyz":
        (folder / letter).rename(folder / f"_{letter}")
    for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz"):
        (folder / f"_{letter}").rename(folder / "abcdefghijklmnopqrstuvwxyz"[(number + 13) % 26])


def _unknown_labels(folder: Path) -> None:
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"word{number}")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one take is zeros": (lambda folder: _change(folder, "b", np.zeros(8000)), "contains only zeros"),
    "one take is silent": (lambda folder: _change(folder, "b", 1e-4 * tone(100, 0.5)), "silent; expected the letter B"),
    "noise": (
        lambda folder: _all(folder, lambda n: 0.1 * np.random.default_rng(n).normal(size=9000)),
        "a letter is said",
    ),
    "tones": (lambda folder: _all(folder, lambda n: tone(200 + 9 * n, 0.4)), "that a letter is said at all"),
    "wrong labels": (_shift_labels, "check that each is in the folder of the letter that is said"),
    "unknown labels": (_unknown_labels, "expected recordings in"),
    "a broken file": (lambda folder: next((folder / "c").iterdir()).write_bytes(b"RIFF"), "cannot be read"),
    "a folder as output": (lambda folder: (folder.parent / "new.pt").mkdir(), "is a folder; expected a file name"),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_recordings_that_cannot_be_adapted_to_are_explained(
    spoil: Callable[[Path], object], said: str, write_takes: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_takes(takes=1)
    spoil(folder)
    assert _run(folder) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert all(line.startswith("error: ") for line in errors.splitlines())
    assert not (folder.parent / "new.pt").is_file()


def test_one_voice_of_several_is_chosen(write_takes: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write_takes(takes=1)
    folder = write_takes(takes=1, speaker=1, name="bob")
    assert _run(folder) == 2
    assert "expected one voice, found 2: anna (26 takes), bob (26 takes); choose one: --speaker NAME" in (
        capsys.readouterr().err
    )
    assert _run(folder, "--speaker", "carl") == 2
    assert "no take of the speaker 'carl'; found anna (26 takes), bob (26 takes)" in capsys.readouterr().err
    assert _run(folder, "--speaker", "bob") in (0, 1)
    assert "Voice: bob, adapted to 26 takes" in capsys.readouterr().out


def test_too_few_letters_and_a_missing_folder_are_explained(
    write_takes: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(write_takes(takes=1, letters="Q")) == 2
    assert "expected takes of 5 letters or more, found 1 of Q" in capsys.readouterr().err
    assert main([str(tmp_path / "takes"), "--output", str(tmp_path / "gone" / "new.pt")]) == 2
    assert "gone: no such folder" in capsys.readouterr().err
    assert main([str(tmp_path / "absent")]) == 2
    assert main([str(tmp_path / "takes"), "training.start_from=null"]) == 2
    assert "expected packaged or a checkpoint to adapt, found null" in capsys.readouterr().err


def test_it_can_be_watched_and_cancelled(write_takes: Write, tmp_path: Path) -> None:
    folder, seen = write_takes(), list[float]()
    config = load_config("adapt", [*ALONE, "training.epochs=3", "training.batch_size=8"])
    with pytest.raises(Cancelled):
        adapt(folder, config=config, output=tmp_path / "new.pt", cancelled=lambda: True)
    assert not (tmp_path / "new.pt").exists()
    found = adapt(folder, config=config, progress=lambda fraction, what: seen.append(fraction))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert found.held_out is not None
    assert found.held_out.count == 26


def test_a_manifest_is_read_and_takes_are_held_out_letter_by_letter(write_takes: Write, tmp_path: Path) -> None:
    folder = write_takes(takes=1)
    utterances = [Utterance(path, path.parent.name.upper(), "anna") for path in sorted(folder.glob("*/*.wav"))]
    write_manifest(tmp_path / "mine.tsv", utterances)
    assert adapt(tmp_path / "mine.tsv", config=load_config("adapt", ALONE)).takes == 26
    several = [one for one in utterances for _ in range({"A": 5, "B": 2, "C": 1}.get(one.letter, 1))]
    split = hold_out(several, seed=0)
    assert [replace(one, split=None) for one in split] == several
    held = [one.letter for one in split if one.split == "valid"]
    assert held == ["A", "B"]
