"""Letters that a model was trained on are known again, also those of the models that it started from."""

from dataclasses import replace
from pathlib import Path

from speechmlp.config.schema import Config
from speechmlp.data.fingerprints import Fingerprints
from speechmlp.data.manifest import Utterance, write_manifest
from speechmlp.evaluation.known import find_known
from speechmlp.runs.checkpoint import PACKAGED, Checkpoint, load_checkpoint, rewrite_checkpoint


def _starting(config: Config, start: Path | None) -> Config:
    training = config.training.model_copy(update={"start_from": None if start is None else str(start)})
    return config.model_copy(update={"training": training})


def _earlier(folder: Path, manifest: Path) -> Checkpoint:
    """Writes `first.pt`, which holds no fingerprints, and `second.pt`, which started from it; returns the third one."""
    packaged = load_checkpoint(PACKAGED)
    corpus = packaged.config.corpus.model_copy(update={"manifest": str(manifest), "mix": ()})
    config = packaged.config.model_copy(update={"corpus": corpus})
    first = replace(packaged, config=_starting(config, None), trained_on=None)
    second = replace(first, config=_starting(config, folder / "first.pt"), trained_on=Fingerprints([b"second"]))
    rewrite_checkpoint(folder / "first.pt", first)
    rewrite_checkpoint(folder / "second.pt", second)
    third = Fingerprints([b"second", b"third."])
    return replace(first, config=_starting(config, folder / "second.pt"), trained_on=third)


def test_letters_of_the_models_it_started_from_are_known(tmp_path: Path) -> None:
    names = [Utterance(tmp_path / f"{letter}.wav", letter, "anna", split="train") for letter in "ABCD"]
    for utterance in names:
        utterance.path.touch()
    write_manifest(tmp_path / "manifest.tsv", names[:1])
    prints = [b"other.", b"second", b"third.", b"new..."]
    model = _earlier(tmp_path, tmp_path / "manifest.tsv")
    assert find_known(model, names, prints) == ([True, True, True, False], [])
    gone = _earlier(tmp_path, tmp_path / "gone.tsv")
    assert find_known(gone, names, prints) == ([False, True, True, False], [str(tmp_path / "gone.tsv")])


def test_starting_models_that_are_gone_or_were_overwritten_are_passed_over(tmp_path: Path) -> None:
    model = _earlier(tmp_path, tmp_path / "gone.tsv")
    utterance = Utterance(tmp_path / "A.wav", "A", "anna")
    rewrite_checkpoint(tmp_path / "second.pt", model)  # it starts from itself now
    assert find_known(model, [utterance], [b"third."]) == ([True], [])
    (tmp_path / "second.pt").unlink()
    assert find_known(model, [utterance], [b"third."]) == ([True], [])
