"""The recognizer on waveforms, batches and files: types, rates, odd recordings and errors."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.config.loading import override_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.recognition.recognizer import Recognizer, Waveform, load_recognizer
from speechmlp.runs.checkpoint import save_checkpoint
from tests.conftest import tone


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model on aligned frames with a temperature; its letters are arbitrary but always the same."""
    path = tmp_path_factory.mktemp("model") / "best.pt"
    config = override_config(Config(), ["front_end={kind: aligned}", "model={kind: mixer, width: 16, blocks: 1}"])
    torch.manual_seed(0)
    model = SpeechClassifier(config)
    torch.nn.init.normal_(model.network.output.weight, std=1.0)  # type: ignore[union-attr, arg-type]
    save_checkpoint(path, config, model, [], temperature=2.0)
    return path


@pytest.fixture(scope="module")
def recognizer(checkpoint: Path) -> Recognizer:
    return load_recognizer(checkpoint, "cpu")


def letter_like(seconds: float, before: float = 0.3, rate: int = 16_000) -> "np.typing.NDArray[np.float32]":
    """Returns a hum between two quiet parts, float32 [T]."""
    hum = sum(tone(150 * number, seconds, rate, 0.3 / number) for number in range(1, 12))
    quiet = np.random.default_rng(0).normal(0, 1e-3, round(before * rate)).astype(np.float32)
    return np.concatenate([quiet, hum, quiet]).astype(np.float32)


def test_probabilities_are_those_of_the_model_with_its_temperature(recognizer: Recognizer) -> None:
    wave = (letter_like(0.4) * 32768).round() / 32768  # exact in 16 bits
    assert len(wave) == 16_000
    found = recognizer(wave, 16_000)
    with torch.inference_mode():
        logits = recognizer.checkpoint.model(torch.from_numpy(wave)[None].float())
    expected = (logits.double() / 2.0).softmax(1)[0]
    assert found.letter == found.ranked[0][0] == LETTERS[int(expected.argmax())]
    assert found.probability == found.ranked[0][1]
    assert {letter for letter, _ in found.ranked} == set(LETTERS)
    assert sum(probability for _, probability in found.ranked) == pytest.approx(1)
    for letter, probability in found.ranked:
        assert probability == pytest.approx(expected[LETTERS.index(letter)].item(), abs=1e-6)
    assert [p for _, p in found.ranked] == sorted((p for _, p in found.ranked), reverse=True)


@pytest.mark.parametrize("before", [0.05, 0.3, 2.0])
def test_start_and_end_are_in_seconds_of_the_recording(recognizer: Recognizer, before: float) -> None:
    energy = override_config(recognizer.checkpoint.config, ["front_end.endpoints=energy"])
    by_energy = Recognizer(
        type(recognizer.checkpoint)(energy, SpeechClassifier(energy).eval(), None, []), torch.device("cpu")
    )
    found = by_energy(letter_like(0.4, before), 16_000)
    assert found.start == pytest.approx(before, abs=0.04)
    assert found.end == pytest.approx(before + 0.4, abs=0.04)


def test_waveforms_batches_and_files_give_the_same_letters(recognizer: Recognizer, tmp_path: Path) -> None:
    waves = [(letter_like(0.2 + 0.1 * number, 0.1 * number), 16_000) for number in range(5)]
    waves.append((letter_like(0.3, 0.2, 22_050), 22_050))
    one_by_one = [recognizer(wave, rate) for wave, rate in waves]
    together = list(recognizer.many(waves))
    for number, (wave, rate) in enumerate(waves):
        soundfile.write(tmp_path / f"{number}.wav", wave, rate, subtype="FLOAT")
    read = list(recognizer.files(tmp_path / f"{number}.wav" for number in range(len(waves))))
    for alone, batched, of_file in zip(one_by_one, together, read, strict=True):
        assert not isinstance(of_file, UserError)
        for other in (batched, of_file):
            assert other.letter == alone.letter
            assert other.probability == pytest.approx(alone.probability, abs=1e-5)
            assert [other.start, other.end] == pytest.approx([alone.start, alone.end])


def test_all_sample_types_give_the_same_letter(recognizer: Recognizer) -> None:
    wave = letter_like(0.4)
    integers = (wave * 32768).round().astype(np.int16)
    expected = recognizer(integers, 16_000)
    same: list[Waveform] = [
        integers.astype(np.float64) / 32768,
        torch.from_numpy(integers),
        np.stack([integers, integers]),
        integers.astype(np.int32) * 65536,
        torch.from_numpy(integers)[None].float() / 32768,
    ]
    for waveform in same:
        assert recognizer(waveform, 16_000).probability == pytest.approx(expected.probability, abs=1e-5)
    quarter = (wave * 127 + 128).round().astype(np.uint8)
    assert recognizer(quarter, 16_000).start == pytest.approx(expected.start, abs=0.05)


def test_odd_recordings_get_a_valid_answer(recognizer: Recognizer) -> None:
    for wave in (np.zeros(16_000), np.zeros(1), np.ones(500_000), np.sign(tone(300, 1.0)), tone(300, 0.01)):
        found = recognizer(wave, 16_000)
        assert 0 < found.probability <= 1
        if found.start is not None and found.end is not None:
            assert 0 <= found.start <= found.end <= len(wave) / 16_000


def test_invalid_waveforms_are_refused(recognizer: Recognizer) -> None:
    good = np.zeros(100, np.float32)
    cases = [
        (np.zeros((16_000, 2)), 16_000, r"\[T, C\] has to be transposed"),
        (np.zeros((2, 2, 2)), 16_000, r"expected samples \[T\] or \[C, T\], found shape \[2, 2, 2\]"),
        (np.zeros(0), 16_000, "found none"),
        (np.array([0.0, np.nan]), 16_000, "NaN or infinite"),
        (np.array([0.0, 12_000.0]), 16_000, "between -1 and 1, found 12000"),
        (np.zeros(10, bool), 16_000, "real samples"),
        (good, 0, "sample_rate: expected 1 to"),
        (good, 10_000_000, "sample_rate: expected 1 to"),
    ]
    for wave, rate, problem in cases:
        with pytest.raises(UserError, match=problem):
            recognizer(wave, rate)


def test_errors_of_broken_files_come_in_order(recognizer: Recognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", letter_like(0.4), 16_000)
    (tmp_path / "b.wav").write_text("broken")
    found = list(recognizer.files([tmp_path / "b.wav", tmp_path / "a.wav", tmp_path / "c.wav", tmp_path / "a.wav"]))
    assert [isinstance(one, UserError) for one in found] == [True, False, True, False]
    assert "b.wav: cannot be decoded" in str(found[0])
