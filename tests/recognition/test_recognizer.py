"""The recognizer on waveforms, batches and files: types, rates, odd recordings and errors."""

import array
import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.audio.resampling import _resampler, resample
from speechmlp.config.loading import override_config
from speechmlp.config.schema import Config
from speechmlp.data.manifest import Utterance, read_manifest
from speechmlp.errors import UserError
from speechmlp.evaluation.joined_words import join, read_letter
from speechmlp.labels import LETTERS
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.segments import load_scorer
from speechmlp.recognition.inputs import Recording, Waveform, as_mono
from speechmlp.recognition.recognizer import Recognizer, Second, load_recognizer
from speechmlp.recognition.speller import Speller, load_speller
from speechmlp.runs.checkpoint import save_checkpoint
from tests.conftest import tone

CPU = torch.device("cpu")


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


def test_layout_and_type_of_samples_do_not_matter(recognizer: Recognizer) -> None:
    integers = (letter_like(0.4) * 32768).round().astype(np.int16)
    floats = integers.astype(np.float32) / 32768
    expected = recognizer(integers, 16_000)
    read_only = floats.copy()
    read_only.setflags(write=False)
    same: dict[str, object] = {
        "a list of integers": integers.tolist(),
        "a tuple": tuple(integers.tolist()),
        "a list of floats": floats.tolist(),
        "a list of channels": [integers.tolist(), integers.tolist()],
        "a list of arrays": [integers, integers],
        "a list of tensors": [torch.from_numpy(floats)] * 2,
        "a list of NumPy numbers": list(integers),
        "array.array": array.array("h", integers.tolist()),
        "memoryview": memoryview(integers),  # type: ignore[arg-type]
        "int64": integers.astype(np.int64),
        "an int64 tensor": torch.from_numpy(integers).long(),
        "uint16": (integers.astype(np.int32) + 32768).astype(np.uint16),
        "uint32": ((integers.astype(np.int64) + 32768) << 16).astype(np.uint32),
        "big-endian int16": integers.astype(">i2"),
        "big-endian float32": floats.astype(">f4"),
        "big-endian float64": floats.astype(">f8"),
        "reversed": integers[::-1].copy()[::-1],
        "a tensor reversed": torch.from_numpy(floats).flip(0).flip(0),
        "every second": np.repeat(integers, 2)[::2],
        "read-only": read_only,
        "Fortran order": np.asfortranarray(np.stack([floats, floats])),
        "transposed": np.stack([floats, floats], 1).T,
        "longdouble": floats.astype(np.longdouble),
        "with gradient": torch.from_numpy(floats).requires_grad_(),
        "a parameter": torch.nn.Parameter(torch.from_numpy(floats)),
        "expanded": torch.from_numpy(floats).expand(2, -1),
    }
    for name, waveform in same.items():
        assert recognizer(waveform, 16_000) == expected, name  # type: ignore[arg-type]
    for half in (floats.astype(np.float16), torch.from_numpy(floats).bfloat16()):
        assert recognizer(half, 16_000).start == pytest.approx(expected.start, abs=0.02)
    rates: list[float] = [16_000.0, np.int32(16_000), np.float64(16_000), torch.tensor(16_000), np.array(16_000)]  # type: ignore[list-item]
    for rate in rates:
        assert recognizer(integers, rate) == expected


def test_paths_bytes_and_files_are_recordings(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wave = letter_like(0.4, 0.2, 22_050)
    soundfile.write(path, wave, 22_050, subtype="PCM_16")
    data = path.read_bytes()
    expected = recognizer(soundfile.read(path, dtype="int16")[0], 22_050)
    with path.open("rb") as file:
        recordings: list[Recording] = [
            str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), file
        ]  # fmt: skip
        assert [recognizer(recording) for recording in recordings] == [expected] * 7
    mixed = recognizer.many([path, (soundfile.read(path, dtype="int16")[0], 22_050), data])
    assert [one.letter for one in mixed] == [expected.letter] * 3
    speller = Speller(recognizer, load_scorer())
    assert speller(data).letters == speller(path).letters == speller(*soundfile.read(path, dtype="int16")).letters
    closed = path.open("rb")
    closed.close()
    wrong: list[tuple[object, int | None, str]] = [
        (tmp_path / "b.wav", None, "b.wav: no such recording"),
        (str(tmp_path), None, "found a folder"),
        (b"", None, "^recording: cannot be decoded as audio"),
        (io.BytesIO(b"no audio"), None, "^recording: cannot be decoded as audio"),
        (io.StringIO("text"), None, "open in binary mode"),
        (closed, None, "recording: the file cannot be read"),
        (data, 22_050, "sample_rate: expected none with a path, bytes or a file"),
        (path, 22_050, "sample_rate: expected none with a path, bytes or a file"),
        (wave, None, "sample_rate: expected 1 to 768000 Hz, a whole number, found None"),
    ]
    for recording, rate, problem in wrong:
        with pytest.raises(UserError, match=problem):
            recognizer(recording, rate)  # type: ignore[arg-type]


def test_a_device_may_be_a_name_or_a_torch_device(checkpoint: Path) -> None:
    for device in ("cpu", torch.device("cpu"), torch.device("cpu", 0)):
        assert load_recognizer(checkpoint, device).device == load_speller(checkpoint, device).recognizer.device == CPU
    for wrong in ("gpu", torch.device("meta"), "CPU", 0, None):
        with pytest.raises(UserError, match="device: expected auto, cpu, cuda or cuda:N"):
            load_recognizer(checkpoint, wrong)  # type: ignore[arg-type]


@contextmanager
def changed(setting: str) -> Iterator[None]:
    """Changes how torch computes, for a while."""
    try:
        match setting:
            case "float64" | "float16":
                torch.set_default_dtype(getattr(torch, setting))
            case "device":
                torch.set_default_device("meta")
            case "deterministic":
                torch.use_deterministic_algorithms(True)
        contexts: dict[str, AbstractContextManager[object]] = {
            "inference": torch.inference_mode(),
            "no_grad": torch.no_grad(),
            "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
            "device context": torch.device("meta"),
        }
        with contexts.get(setting, nullcontext()):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "setting",
    ["float64", "float16", "device", "deterministic", "inference", "no_grad", "autocast", "device context"],
)
def test_the_settings_of_torch_do_not_change_the_answers(setting: str) -> None:
    waves = [(letter_like(0.4, rate=rate), rate) for rate in (16_000, 44_100)]
    waves.append((np.stack([waves[0][0], -waves[0][0]]), 16_000))  # channels that cancel each other
    _resampler.cache_clear()
    before = load_recognizer(None, "cpu"), load_speller(None, "cpu")

    def answers(recognizer: Recognizer, speller: Speller) -> list[float]:
        probabilities = [probability for wave in waves for _, probability in sorted(recognizer(*wave).ranked)]
        return probabilities + [letter.probability for wave in waves for letter in speller(*wave).letters]

    expected = pytest.approx(answers(*before), abs=1e-4)
    _resampler.cache_clear()  # so that it is filled under the setting
    with changed(setting):
        within = load_recognizer(None, "cpu"), load_speller(None, "cpu")
        assert answers(*within) == expected
        assert answers(*before) == expected
    assert answers(*within) == expected
    assert answers(*before) == expected
    gradient = torch.zeros(100, requires_grad=True)
    resample(gradient, 44_100, 16_000).sum().backward()  # type: ignore[no-untyped-call]
    assert gradient.grad is not None


def test_threads_share_a_recognizer(recognizer: Recognizer) -> None:
    waves = [(letter_like(0.1 + 0.05 * number, rate=rate), rate) for number in range(4) for rate in (8000, 44_100)]
    expected = [recognizer(*wave) for wave in waves]
    _resampler.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda wave: recognizer(*wave), waves * 3)) == expected * 3


def test_odd_recordings_get_a_valid_answer(recognizer: Recognizer) -> None:
    for wave in (np.zeros(16_000), np.zeros(1), np.ones(500_000), np.sign(tone(300, 1.0)), tone(300, 0.01)):
        found = recognizer(wave, 16_000)
        assert 0 < found.probability <= 1
        if found.start is not None and found.end is not None:
            assert 0 <= found.start <= found.end <= len(wave) / 16_000


ODD_RATES = [0.5, -1, float("nan"), float("inf"), True, np.True_, "16000", None, [16_000], 16_000.5, 16_000j]


def test_invalid_waveforms_are_refused(recognizer: Recognizer) -> None:
    good = np.zeros(100, np.float32)
    cases: list[tuple[object, object, str]] = [
        (np.zeros((16_000, 2)), 16_000, r"\[T, C\] has to be transposed"),
        (np.zeros((2, 2, 2)), 16_000, r"expected samples \[T\] or \[C, T\], found shape \[2, 2, 2\]"),
        (np.zeros(0), 16_000, "found none"),
        (np.array([0.0, np.nan]), 16_000, "NaN or infinite"),
        (np.array([0.0, 12_000.0]), 16_000, "between -1 and 1, found 12000"),
        (np.zeros(10, bool), 16_000, "real samples"),
        (good, 0, "sample_rate: expected 1 to"),
        (good, 10_000_000, "sample_rate: expected 1 to"),
        *((good, rate, "sample_rate: expected 1 to 768000 Hz, a whole number, found ") for rate in ODD_RATES),
        (np.zeros(4000), 1, "expected at most 3600 s, found 4000 samples at 1 Hz"),
        ([], 16_000, "found none"),
        ([[]], 16_000, "found none"),
        (np.zeros((0, 5)), 16_000, r"found shape \[0, 5\]"),
        (np.zeros((2, 0)), 16_000, "found none"),
        ([[1, 2], [3]], 16_000, "rows of the same length"),
        ([torch.zeros(2), torch.zeros(3)], 16_000, "rows of the same length"),
        ([40_000, 1], 16_000, "expected 64-bit integers to be 16-bit samples, found 1 to 40000"),
        (np.array([2**40]), 16_000, "expected 64-bit integers to be 16-bit samples"),
        ([2**70], 16_000, "expected real samples, found values of type object"),
        (np.array([0.0, 1.0], object), 16_000, "expected real samples, found values of type object"),
        ([0.0, None], 16_000, "expected real samples, found values of type object"),
        (["a", "b"], 16_000, "expected real samples, found values of type <U1"),
        (np.zeros(10, complex), 16_000, "expected real samples, found values of type complex128"),
        (torch.zeros(10, dtype=torch.complex64), 16_000, "expected real samples"),
        (torch.zeros(10, dtype=torch.bool), 16_000, "expected real samples"),
        (torch.zeros(10).to_sparse(), 16_000, "expected real samples in a dense tensor"),
        (torch.zeros(10, device="meta"), 16_000, "expected real samples in a dense tensor"),
        (np.ma.array([0.0, 1.0], mask=[True, False]), 16_000, "expected real samples"),
        (np.zeros(3, "M8[s]"), 16_000, "expected real samples"),
        (None, 16_000, "expected real samples, found one value of type NoneType"),
        (5, 16_000, r"found shape \[\]"),
        ({}, 16_000, "expected real samples, found one value of type dict"),
        ([float("inf")], 16_000, "NaN or infinite"),
        (torch.tensor([float("nan")]).bfloat16(), 16_000, "NaN or infinite"),
    ]
    for wave, rate, problem in cases:
        with pytest.raises(UserError, match=problem):
            recognizer(wave, rate)  # type: ignore[arg-type]


def test_errors_of_broken_files_come_in_order(recognizer: Recognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", letter_like(0.4), 16_000)
    (tmp_path / "b.wav").write_text("broken")
    found = list(recognizer.files([tmp_path / "b.wav", tmp_path / "a.wav", tmp_path / "c.wav", tmp_path / "a.wav"]))
    assert [isinstance(one, UserError) for one in found] == [True, False, True, False]
    assert "b.wav: cannot be decoded" in str(found[0])


def test_every_way_to_give_a_recording_says_which_channel_is_used(recognizer: Recognizer, tmp_path: Path) -> None:
    wave = letter_like(0.4)
    opposite = np.stack([wave, -wave])
    path = tmp_path / "opposite.wav"
    soundfile.write(path, opposite.T, 16_000)
    speller = Speller(recognizer, load_scorer())
    found = [
        recognizer(path),
        recognizer(path.read_bytes()),
        recognizer(opposite, 16_000),
        *recognizer.many([path, (opposite, 16_000)]),
        *recognizer.files([path]),
        speller(path),
        speller(opposite, 16_000),
    ]
    notes = {one.note for one in found if not isinstance(one, UserError)}
    assert len(found) == 8
    assert len(notes) == 1
    assert notes.pop().endswith("; only channel 1 of 2 is used")
    assert recognizer(np.stack([wave, wave]), 16_000).note == ""


def test_two_letters_in_a_row_are_more_than_one(synthetic_corpus: Path) -> None:
    recognizer = load_recognizer(device="cpu")
    letters = [one for one in read_manifest(synthetic_corpus) if one.letter != "W"][:50]
    pairs = [join(pair, [0.1])[0] for pair in pairwise(map(read_letter, letters))]
    assert np.median([len(samples) for samples in pairs]) < 1.5 * 16_000  # with a quarter of a second on each side
    assert np.mean([found.more for found in recognizer.many((samples, 16_000) for samples in pairs)]) > 0.7
    assert np.mean([found.more for found in recognizer.many([one.path for one in letters])]) < 0.05


def test_the_two_voices_of_w_are_one_letter(synthetic_corpus: Path) -> None:
    recognizer = load_recognizer(device="cpu")
    paths = [one.path for one in read_manifest(synthetic_corpus) if one.letter == "W"]
    seconds = [Second.of(as_mono(path)) for path in paths]
    found = zip(seconds, recognizer.recognize(seconds), strict=True)
    several = [one for second, one in found if second.voices > 1 and one.letter == "W"]
    assert several
    assert not any(one.more for one in several)


@pytest.mark.corpus
@pytest.mark.slow
def test_real_letters_in_a_row_are_more_than_one(real_recordings: Path) -> None:
    recognizer = load_recognizer(device="cpu")
    with (real_recordings / "people" / "index.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["use"] == "train" and row["start"]]
    letters = [
        Utterance(
            real_recordings / "people" / row["path"],
            row["letter"],
            row["speaker"],
            start=float(row["start"]),
            end=float(row["end"]),
        )
        for row in rows
    ]
    pairs = [(first, second) for first, second in pairwise(letters) if first.speaker == second.speaker]
    for pause in (0.0, 0.1):
        joined = (join(list(map(read_letter, pair)), [pause])[0] for pair in pairs)
        more = [found.more for found in recognizer.many((samples, 16_000) for samples in joined)]
        print(f"{pause} s between two letters: {np.mean(more):.3f} of {len(more)} flagged")
        assert np.mean(more) > 0.85
    more = [found.more for found in recognizer.many([one.path for one in letters])]
    print(f"single letters: {np.mean(more):.3f} of {len(more)} flagged")
    assert np.mean(more) < 0.02
