"""Spelled words: the search compared with all sequences of segments, and recordings of real spellers."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scripts.release.evaluate_spelling import edit_distance, write_automaton

from speechmlp.corpora.an4 import read_samples, read_tree
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.models.segments import SegmentScorer, load_scorer, save_scorer
from speechmlp.predict import main
from speechmlp.recognition.speller import Candidates, Speller, load_speller
from speechmlp.recognition.word_list import WordList

SPELLED = "GLENN"
"""A word that one of AN4's validation speakers spells clearly."""


@pytest.fixture(scope="module")
def speller() -> Speller:
    return load_speller(device="cpu")


def some_candidates(seed: int, count: int = 7) -> Candidates:
    generator = np.random.default_rng(seed)
    starts = np.sort(generator.integers(0, 60, count))
    lengths = generator.integers(6, 40, count)
    order = np.argsort(starts + lengths, kind="stable")
    logits = generator.normal(0, 3, (count, 26))
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return Candidates(starts[order], (starts + lengths)[order], generator.normal(0, 3, count), log_probabilities)


def all_sequences(
    found: Candidates, overlap: int, since: int = 0, chosen: tuple[int, ...] = ()
) -> Iterator[tuple[int, ...]]:
    """Yields all sequences of candidates that overlap by at most so many frames."""
    yield chosen
    for index, (start, end) in enumerate(zip(found.starts, found.ends, strict=True)):
        if start >= since:
            yield from all_sequences(found, overlap, max(int(end) - overlap, int(start) + 1), (*chosen, index))


@pytest.mark.parametrize("seed", range(8))
def test_the_search_finds_the_best_sequence(speller: Speller, seed: int) -> None:
    from speechmlp.recognition.speller import OVERLAP

    found = some_candidates(seed)
    weights = (1.0, 1.0, 1.0)
    scores = found.odds + found.log_probabilities.max(1) + 1.0
    best = max(all_sequences(found, OVERLAP), key=lambda chosen: scores[list(chosen)].sum() if chosen else 0.0)
    expected = [LETTERS[int(found.log_probabilities[index].argmax())] for index in best]
    spelling = speller.spell(found, 200 * 160, weights)
    assert [one.letter for one in spelling.letters] == expected
    assert [one.start for one in spelling.letters] == [pytest.approx(found.starts[index] / 100) for index in best]


def test_no_letters_are_found_in_silence_and_noise(speller: Speller) -> None:
    for wave in (np.zeros(16_000), np.zeros(1), np.random.default_rng(0).normal(0, 1e-3, 30_000)):
        assert speller(wave, 16_000).text == ""
    nothing = speller(np.zeros(1), 16_000).lattice
    assert WordList(["AB", "C"]).rank(nothing)[0][0] == "C"  # fewer deleted letters


def test_the_end_of_a_recording_of_minutes_is_scored(speller: Speller) -> None:
    frames = 60_001  # so many that float32 cannot tell frame 60,000 from 60,000.001
    features = torch.randn(1, frames, speller.scorer.front_end.shape[0], generator=torch.Generator().manual_seed(0))
    end = torch.tensor([frames - 1, frames])
    with torch.inference_mode():
        odds = speller.scorer(features, torch.zeros_like(end), end - 40, end)
        cut = 500  # frames with the segments and their context
        alone = speller.scorer(features[:, -cut:], torch.zeros_like(end), end - 40 - frames + cut, end - frames + cut)
    torch.testing.assert_close(odds, alone, atol=0.05, rtol=0.01)


def test_files_that_are_not_a_scorer_are_refused(tmp_path: Path) -> None:
    save_scorer(tmp_path / "good.pt", SegmentScorer())
    load_scorer(tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as stored, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as packed:
        for part in stored.infolist():
            packed.writestr(part.filename, stored.read(part), zipfile.ZIP_DEFLATED)
    (tmp_path / "text.pt").write_text("no archive")
    torch.save([1], tmp_path / "list.pt")
    torch.save({"format": 1, "model": {"layers.0.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    for name in ("bomb", "text", "list", "other"):
        with pytest.raises(
            UserError, match=rf"{name}.pt: cannot be read; expected what scripts/release/train_segments.py"
        ):
            load_scorer(tmp_path / f"{name}.pt")
    with pytest.raises(UserError, match=r"absent.pt: the package contains no model for spelling; install it again"):
        load_scorer(tmp_path / "absent.pt")


def test_edit_distances() -> None:
    pairs = [("SMITH", "SMITH", 0), ("SMITH", "SMYTH", 1), ("", "ABC", 3), ("KITTEN", "SITTING", 3), ("AB", "BA", 2)]
    for one, other, distance in pairs:
        assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_the_automaton_accepts_its_words_and_nothing_else(tmp_path: Path) -> None:
    words = ["AB", "ABC", "BA", "A"]
    write_automaton(tmp_path / "words.fsg", words)
    lines = (tmp_path / "words.fsg").read_text().splitlines()
    final = next(line.split()[1] for line in lines if line.startswith("FINAL_STATE"))
    moves = [line.split()[1:] for line in lines if line.startswith("TRANSITION")]

    def spellings(state: str) -> set[str]:
        found = {""} if state == final else set()
        for move in moves:
            if move[0] == state:
                letter = move[3] if len(move) > 3 else ""
                found |= {letter + rest for rest in spellings(move[1])}
        return found

    assert spellings("0") == set(words)


@pytest.mark.corpus
def test_words_of_real_spellers_are_recognised(speller: Speller, real_recordings: Path) -> None:
    recordings, _ = read_tree(real_recordings / "an4")
    spelled = [
        one for one in recordings if one.split == "valid" and one.words and all(word in LETTERS for word in one.words)
    ][::3]
    corpus = WordList("".join(one.words) for one in recordings if all(word in LETTERS for word in one.words))
    errors = letters = right = 0
    for one in spelled:
        samples = read_samples(one.path)
        found = speller(samples, 16_000)
        word = "".join(one.words)
        errors, letters = errors + edit_distance(word, found.text), letters + len(word)
        right += corpus.rank(found.lattice)[0][0] == word
        times = [edge for letter in found.letters for edge in (letter.start, letter.end)]
        assert all(0 <= time <= len(samples) / 16_000 for time in times)
        assert all(one.start < one.end for one in found.letters)
        assert [one.start for one in found.letters] == sorted(one.start for one in found.letters)
    assert errors / letters < 0.25
    assert right / len(spelled) > 0.8


@pytest.mark.corpus
def test_the_command_prints_the_same_in_all_formats(
    tmp_path: Path, real_recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings, _ = read_tree(real_recordings / "an4")
    spoken = next(one for one in recordings if one.split == "valid" and "".join(one.words or ()) == SPELLED)
    soundfile.write(tmp_path / "a.wav", read_samples(spoken.path), 16_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    (tmp_path / "words.txt").write_text(f"OTHER\n{SPELLED}\n")

    def answer(form: str, *arguments: str) -> str:
        files = [str(tmp_path / name) for name in ("a.wav", "silent.wav")]
        assert main([*files, "--spell", "--format", form, "--device", "cpu", *arguments]) == 0
        return capsys.readouterr().out

    found, silent = (json.loads(line) for line in answer("jsonl").splitlines())
    assert (found["text"], silent["text"]) == (SPELLED, "")
    rows = list(csv.DictReader(io.StringIO(answer("csv"))))
    assert [(row["path"], row["letter"], float(row["start"])) for row in rows] == [
        (found["path"], one["letter"], one["start"]) for one in found["letters"]
    ]
    lines = answer("text").splitlines()
    assert lines[0] == f"{found['path']}: {' '.join(SPELLED)}"
    assert lines[-1] == f"{silent['path']}: no letters"
    assert len(lines) == len(found["letters"]) + 2
    ranked = list(csv.DictReader(io.StringIO(answer("csv", "--words", str(tmp_path / "words.txt")))))
    assert [row["word"] for row in ranked[:2]] == [SPELLED, "OTHER"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    assert main([str(tmp_path / "silent.wav"), "--spell", "--format", "csv", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "path,position,letter,probability,start,end\n"
