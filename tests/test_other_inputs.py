"""Models whose input has another sample rate or length, from training to use."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.audio.channels import Mix
from speechmlp.audio.decoding import load_letter
from speechmlp.audio.placing import Placing
from speechmlp.audio_format import AudioInput
from speechmlp.config.loading import load_config
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
from speechmlp.export.formats import read_onnx
from speechmlp.export.portable import PortableClassifier, odd_waveforms
from speechmlp.export.portable import describe as metadata_of
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.placing import place
from speechmlp.recognition.recognizer import Second, load_recognizer
from speechmlp.recognition.speller import load_speller
from speechmlp.runs.checkpoint import load_checkpoint
from tests.audio.test_placing import recording, voice
from tests.conftest import once, tone
from tests.forks import Forks

ALIGNED = "front_end={kind: aligned, n_mels: 16, endpoint_width: 8, endpoint_blocks: 1, %s}"
INPUTS = {
    "8khz": ["input.sample_rate=8000", ALIGNED % "n_fft: 256, win_length: 200, hop_length: 160, f_max: 3900"],
    "2s": ["input.seconds=2", ALIGNED % "hop_length: 320, f_max: 7600"],
    "44khz": [
        "input.sample_rate=44100",
        "input.seconds=0.5",
        "front_end={kind: log_mel, n_fft: 2048, win_length: 1102, hop_length: 441}",
    ],
}
SIZES = {"8khz": (8000, 8000), "2s": (16_000, 32_000), "44khz": (44_100, 22_050)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """A folder with recordings of three pitches, their manifest, and a run for each input."""

    def make(folder: Path) -> None:
        rows = ["path\tletter\tspeaker\tsplit"]
        for speaker, split in enumerate(("train", "train", "train", "valid", "test")):
            for number, letter in enumerate("ABC"):
                sound = tone(300 * 2**number, 0.3 + 0.02 * speaker, 22_050)
                soundfile.write(folder / f"{letter}{speaker}.wav", sound, 22_050)
                rows.append(f"{letter}{speaker}.wav\t{letter}\ts{speaker}\t{split}")
        (folder / "m.tsv").write_text("\n".join(rows) + "\n")
        quick = ["training.epochs=10", "training.batch_size=4", "model.hidden=[16]", "device=cpu"]
        quick += ["augment={speed: 0.05, shift: 0.2}", "corpus.manifest=m.tsv", "labels=[A, B, C]"]
        for name, settings in INPUTS.items():
            train = ["-m", "speechmlp", "train", "--config", "quickstart", *quick, *settings, f"output.name={name}"]
            result = forks.run(train, folder)
            assert result.returncode == 0, result.stderr

    return once(tmp_path_factory, "other inputs", make)


@pytest.mark.parametrize("name", INPUTS)
def test_a_model_of_another_input_is_evaluated_and_used(name: str, trained: Path, forks: Forks) -> None:
    best = trained / "runs" / name / "best.pt"
    checkpoint = load_checkpoint(best)
    rate, size = SIZES[name]
    assert checkpoint.model.audio == AudioInput(rate, size)
    assert checkpoint.model(torch.zeros(2, size)).shape == (2, 3)
    report = f"page-{name}"
    evaluate: list[str | Path] = ["-m", "speechmlp", "evaluate", "--checkpoint", best, "--report", report, "--sweep"]
    result = forks.run([*evaluate, "--split", "train", "--device", "cpu"], trained)
    assert result.returncode == 0, result.stderr
    found = json.loads((trained / report / "evaluation.json").read_text())
    assert found["scores"]["accuracy"]["value"] == 1.0
    assert {group["name"] for group in found["scores"]["groups"] if group["kind"] == "duration"} == {"0.25 to 0.4 s"}
    recognizer = load_recognizer(best, "cpu")
    for letter in "ABC":
        assert recognizer(trained / f"{letter}0.wav").ranked[0][0] == letter
    metadata = metadata_of(checkpoint, name)
    assert (metadata["sample_rate"], metadata["num_samples"]) == (str(rate), str(size))
    waveforms = odd_waveforms(checkpoint.model.audio)
    assert PortableClassifier(checkpoint)(waveforms).isfinite().all()
    spelled = load_speller(best, "cpu")(np.concatenate([tone(300, 0.4), np.zeros(8000, np.float32)] * 2), 16_000)
    assert spelled.lattice.scores.shape[1] == 3


@pytest.mark.slow
def test_an_exported_model_of_another_input_is_the_same(trained: Path, forks: Forks) -> None:
    export: list[str | Path] = ["-m", "speechmlp", "export", "--checkpoint", trained / "runs" / "8khz" / "best.pt"]
    result = forks.run([*export, "--output", "8khz.onnx"], trained)  # compared with PyTorch there
    assert result.returncode == 0, result.stderr
    assert read_onnx(trained / "8khz.onnx")(torch.zeros(2, 8000)).shape == (2, 3)


def test_the_start_of_a_letter_is_in_seconds(trained: Path) -> None:
    sound = np.zeros(48_000, np.float32)
    sound[20_000:26_400] = tone(600, 0.4)
    for name in ("8khz", "2s"):
        found = load_recognizer(trained / "runs" / name / "best.pt", "cpu")(sound, 16_000)
        assert found.start is None or (found.start > 0.9 and found.end is not None and found.end < 2.1)


def test_the_letter_gets_the_middle_of_every_input() -> None:
    spoken = recording((2.5, voice()), seconds=4.0)
    for rate, size in ((16_000, 16_000), (8000, 8000), (16_000, 32_000), (44_100, 44_100), (8000, 4000)):
        second = Second.of(Mix(torch.from_numpy(spoken)), AudioInput(rate, size))
        assert second.waveform.shape == (size,)
        middle = (second.first + size / 2) / rate
        assert middle == pytest.approx(2.7, abs=0.1), (rate, size)


def test_speech_of_two_seconds_is_one_stretch_of_an_input_of_two() -> None:
    spoken = recording((0.5, voice()), (1.2, voice()), seconds=4.0)  # with 0.3 s between them
    one, two = Placing(spoken), Placing(spoken, AudioInput(16_000, 32_000))
    assert len(one.stretches) == 2
    assert [stretch.long for stretch in two.stretches] == [False]
    samples = two.second().samples
    assert all(np.abs(samples[part]).max() > 0.2 for part in (slice(0, 16_000), slice(16_000, 32_000)))


def test_placing_without_torch_gives_the_same_input() -> None:
    spoken = recording((2.5, voice()), seconds=4.0)
    for audio in (AudioInput(), AudioInput(8000, 8000), AudioInput(16_000, 32_000), AudioInput(44_100, 22_050)):
        ours = Second.of(Mix(torch.from_numpy(spoken)), audio).waveform.numpy()
        np.testing.assert_allclose(place(spoken, 16_000, audio), ours, atol=1e-4)


def test_each_input_has_a_pack_of_its_own(trained: Path) -> None:
    corpus = CorpusConfig(manifest=str(trained / "m.tsv"), cache=str(trained / "packs"))
    sizes = ((16_000, 16_000), SIZES["8khz"], SIZES["2s"])
    usual, low, long = (open_packed(corpus, audio=AudioInput(*size)) for size in sizes)
    assert [packed.waveforms.shape[1] for packed in (usual, low, long)] == [16_000, 8000, 32_000]
    assert len({packed.folder for packed in (usual, low, long)}) == 3
    again = open_packed(corpus, audio=AudioInput(8000, 8000))
    assert not again.decoded
    assert low.lengths[0] == pytest.approx(usual.lengths[0] / 2, abs=2)
    assert load_letter(trained / "A0.wav", audio=AudioInput(8000, 8000))[1] == int(low.lengths[0])


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["input.sample_rate=8000"],
            "front_end.f_max: expected 4000 or less, half of input.sample_rate, found 8000; sizes are in samples, so "
            "that these are as long as at 16000 Hz: front_end.n_fft=256 front_end.win_length=200 "
            "front_end.hop_length=80",
        ),
        (["front_end.f_max=9000"], "front_end.f_max: expected 8000 or less, half of input.sample_rate, found 9000"),
        (
            ["input.seconds=0.2", "front_end.n_fft=4096"],
            "front_end: expected n_fft <= 3200, the length of the input, found 4096",
        ),
        (["input.sample_rate=0"], "input.sample_rate: expected greater than or equal to 4000, found 0"),
        (["input.seconds=60"], "input.seconds: expected less than or equal to 10, found 60"),
        (["input.seconds=.nan"], "input.seconds: expected a finite number"),
    ],
)
def test_wrong_inputs_are_reported(overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("quickstart", overrides)
    assert problem in str(caught.value)


def test_inputs_of_any_number_of_samples_are_read() -> None:
    for rate, seconds in ((16_000, 0.25), (11_025, 1.0), (8000, 0.777), (22_050, 1.5)):
        config = load_config(
            "letters_small",
            [f"input.sample_rate={rate}", f"input.seconds={seconds}", f"front_end.f_max={rate / 2}"],
        )
        model = SpeechClassifier(config).eval()
        assert model(torch.randn(2, config.input.audio.num_samples)).isfinite().all()
