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
from numpy.typing import NDArray
from scripts.release.evaluate_spelling import write_automaton

from speechmlp.corpora.an4 import read_samples, read_tree
from speechmlp.errors import UserError
from speechmlp.evaluation.spelling import edit_distance
from speechmlp.labels import LETTERS
from speechmlp.models.segments import SegmentScorer, load_scorer, save_scorer
from speechmlp.predict import main
from speechmlp.recognition.candidates import OVERLAP, Candidates, with_doubles
from speechmlp.recognition.speller import Speller, Weights, load_speller
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

    def log_probabilities() -> NDArray[np.float64]:
        logits = generator.normal(0, 3, (count, 26))
        return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))

    return Candidates(
        starts[order],
        (starts + lengths)[order],
        generator.normal(0, 3, count),
        generator.random(count) < 0.3,
        generator.random(count) < 0.3,
        log_probabilities(),
        log_probabilities(),
        np.zeros(count, bool),
    )


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
    found = some_candidates(seed)
    weights = Weights(odds=1.0, letter=0.8, named=0.4, bonus=1.0, piece=0.5, alone=0.7)
    letters = 0.8 * found.log_probabilities + 0.4 * found.named
    scores = found.odds + letters.max(1) + 1.0 + 0.5 * found.pieces + 0.7 * found.alone
    best = max(all_sequences(found, OVERLAP), key=lambda chosen: scores[list(chosen)].sum() if chosen else 0.0)
    expected = [LETTERS[int(letters[index].argmax())] for index in best]
    spelling = speller.spell(found, 200 * 160, weights)
    assert [one.letter for one in spelling.letters] == expected
    assert [one.start for one in spelling.letters] == [pytest.approx(found.starts[index] / 100) for index in best]


def test_the_word_double_repeats_the_letter_after_it() -> None:
    found = some_candidates(3, 6)
    found.starts[:], found.ends[:] = [0, 0, 30, 34, 60, 65], [28, 33, 55, 58, 90, 91]
    found.odds[:] = [-9, -9, 1, 4, 5, 6]
    found.log_probabilities[:] = np.log(1e-6)
    found.log_probabilities[:, LETTERS.index("E")] = -0.1
    found.log_probabilities[3] = np.log(1e-6)
    found.log_probabilities[3, LETTERS.index("L")] = -0.1
    twice = with_doubles(found, np.array([-5.0, 3.0, -5.0, -5.0, -5.0, -5.0]))
    assert len(twice.odds) == 7
    assert (twice.starts[6], twice.ends[6], twice.odds[6], twice.doubles[6]) == (0, 33, 3.0, True)
    assert LETTERS[int(twice.log_probabilities[6].argmax())] == "L"
    nothing = with_doubles(found, np.array([-5.0, -5.0, -5.0, -5.0, -5.0, 3.0]))  # no letter follows
    assert len(nothing.odds) == 6


def test_pieces_between_pauses_are_candidates(speller: Speller) -> None:
    generator = np.random.default_rng(0)
    wave = generator.normal(0, 1e-4, 40_000)
    for start in (8_000, 24_000):
        wave[start : start + 5_600] += 0.2 * np.sin(2 * np.pi * 300 * np.arange(5_600) / 16_000)
    found = speller.candidates(torch.from_numpy(wave.astype(np.float32)))
    pieces = list(zip(found.starts[found.pieces].tolist(), found.ends[found.pieces].tolist(), strict=True))
    assert len(pieces) == 2
    for (start, end), expected in zip(pieces, (50, 150), strict=True):
        assert start == pytest.approx(expected, abs=4)
        assert end == pytest.approx(expected + 35, abs=4)
    assert found.alone.tolist() == found.pieces.tolist()  # letters are said one by one
    wave[24_000:40_000] += 0.2 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000)  # too long for one letter
    assert not speller.candidates(torch.from_numpy(wave.astype(np.float32))).alone.any()


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
