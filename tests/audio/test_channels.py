"""Channels that are mixed by their mean, and those of which one is used."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from numpy.typing import NDArray

from speechmlp.audio.channels import mix
from speechmlp.audio.decoding import load, to_mono_16k
from speechmlp.audio.measures import faults, measure

RATE = 16_000
Array = NDArray[np.float64]


def syllable(seed: int = 0, seconds: float = 0.9, rate: int = RATE) -> Array:
    """Returns a voiced sound of 0.3 s with moving formants, and quiet noise around it."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = generator.uniform(100, 220) * (1 + 0.2 * time)
    voice = scipy.signal.sawtooth(2 * np.pi * np.cumsum(pitch) / rate) + 0.1 * generator.standard_normal(len(time))
    for formant in generator.uniform((300, 1200, 2400), (800, 2200, 3000)):
        voice += 3 * scipy.signal.lfilter(*scipy.signal.iirpeak(formant, 8, fs=rate), voice)
    voice *= np.exp(-((2.5 * (time / seconds - 0.5) / 0.6) ** 4))
    return np.asarray(0.2 * voice / np.abs(voice).max() + 1e-4 * generator.standard_normal(len(time)))


def later(sound: Array, seconds: float, rate: int = RATE) -> Array:
    return np.concatenate([np.zeros(round(seconds * rate)), sound])[: len(sound)]


def noise(seed: int, level: float, length: int) -> Array:
    return level * np.random.default_rng(seed).standard_normal(length)


def hum(length: int, level: float = 0.1) -> Array:
    time = np.arange(length) / RATE
    return np.asarray(level * sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 20)))


def echoes(sound: Array, seed: int, level: float) -> Array:
    """Returns a sound with echoes of 0.2 s."""
    response = np.random.default_rng(seed).standard_normal(3200) * np.exp(-np.arange(3200) / 800)
    response *= level / np.linalg.norm(response)
    response[0] += 1
    return np.asarray(scipy.signal.fftconvolve(sound, response)[: len(sound)])


S = syllable()
N = len(S)
ORDINARY: dict[str, list[Array]] = {
    "the same twice": [S, S],
    "with dither": [S, S + noise(1, 3e-5, N)],
    "panned": [S, 0.6 * S],
    "some echoes": [echoes(S, 1, 0.2), echoes(S, 2, 0.2)],
    "equal noise": [S + noise(1, 0.005, N), S + noise(2, 0.005, N)],
    "with an offset": [S, S + 0.2],
    "six the same": [S] * 6,
    "0.03 ms apart": [S, np.interp(np.arange(N) - 0.5, np.arange(N), S)],
}
ONE: dict[str, tuple[list[Array], set[int]]] = {
    "opposite polarity": ([S, -S], {0, 1}),
    "opposite and weaker": ([-0.7 * S, S], {0, 1}),
    "opposite in a pair of six": ([S, -S, 0 * S, 0 * S, 0 * S, 0 * S], {0, 1}),
    "0.5 ms apart": ([S, later(S, 0.0005)], {0, 1}),
    "2 ms apart": ([S, later(S, 0.002)], {0, 1}),
    "7 ms apart": ([later(S, 0.007), S], {0, 1}),
    "filtered differently": ([echoes(S, 1, 2.0), echoes(S, 2, 2.0)], {0, 1}),
    "one of six, silence": ([0 * S, 0 * S, 0 * S, 0 * S, S, 0 * S], {4}),
    "one of six, noise": ([noise(k, 0.05, N) if k != 2 else S for k in range(6)], {2}),
    "one of six, hum": ([hum(N) if k != 3 else S for k in range(6)], {3}),
    "one of two, louder noise": ([noise(1, 0.3, N), S], {1}),
    "one of two, louder hum": ([hum(N, 0.3), S], {1}),
    "one of two, dither": ([noise(1, 2e-5, N), S], {1}),
    "one of two, a constant": ([0 * S + 0.4, S], {1}),
    "crosstalk": ([0.02 * S + noise(1, 1e-5, N), S], {1}),
    "one noisy": ([S + noise(1, 0.1, N), S], {1}),
    "one clipped": ([np.clip(12 * S, -0.8, 0.8), S], {1}),
    "one clipped, the other quiet": ([S / 3, np.clip(12 * S, -0.8, 0.8)], {0}),
}


def tensor(channels: list[Array]) -> torch.Tensor:
    return torch.from_numpy(np.stack(channels)).float()


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_channels_give_their_mean(name: str) -> None:
    waveform = tensor(ORDINARY[name])
    mixed = mix(waveform, RATE)
    assert (mixed.channel, mixed.note) == (None, "")
    assert torch.equal(to_mono_16k(waveform, RATE), waveform.mean(dim=0))


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("gain", [1.0, 0.02])
def test_one_channel_is_used_if_the_mean_would_lose_speech(name: str, gain: float) -> None:
    channels, allowed = ONE[name]
    if gain < 1 and "clipped" in name:
        pytest.skip("quiet channels are not clipped")
    waveform = gain * tensor(channels)
    mixed = mix(waveform, RATE)
    assert mixed.channel in allowed
    assert torch.equal(mixed.waveform, waveform[mixed.channel])
    assert mixed.note.endswith(f"; only channel {mixed.channel + 1} of {len(channels)} is used")
    assert torch.equal(to_mono_16k(waveform, RATE), mixed.waveform)
    assert [kind for kind, _ in faults(measure(waveform, RATE)) if kind in ("cancelled", "one_channel")]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_the_choice_does_not_depend_on_voice_and_rate(seed: int, rate: int) -> None:
    sound = syllable(seed, rate=rate)
    silence = np.zeros(len(sound))
    assert mix(tensor([silence, noise(seed, 0.1, len(sound)), sound]), rate).channel == 2
    assert mix(tensor([sound, -sound]), rate).channel == 0
    assert mix(tensor([sound, later(sound, 0.003, rate)]), rate).channel is not None
    assert mix(tensor([sound, 0.8 * sound]), rate).channel is None


@pytest.mark.parametrize("length", [1, 2, 17, 400, 16_000])
@pytest.mark.parametrize("rate", [1, 11_025, 768_000])
def test_sounds_without_speech_are_mixed_too(length: int, rate: int) -> None:
    assert mix(torch.zeros(3, length), rate).channel is None
    tones = torch.stack([torch.sin(0.1 * torch.arange(length)), torch.sin(0.3 * torch.arange(length))])
    assert mix(tones, rate).waveform.shape == (length,)
    opposite = torch.stack([tones[1], -tones[1]])
    assert mix(opposite, rate).waveform.shape == (length,)
    if length > 17:
        assert mix(opposite, rate).channel is not None


@pytest.mark.parametrize("spell", [[], ["--spell"]])
def test_predict_says_which_channel_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spell: list[str]
) -> None:
    from speechmlp.predict import main

    for name, channels in {"both": [S, S], "opposite": [S, -S], "one": [S]}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, 1), RATE)
    paths = [str(tmp_path / f"{name}.wav") for name in ("both", "opposite", "one")]
    assert main([*paths, "--device", "cpu", "--format", "jsonl", *spell]) == 0
    printed = capsys.readouterr()
    answers = {line.partition(", ")[2] for line in printed.out.splitlines() if line.startswith('{"path"')}
    assert len(answers) == 1  # the same for all three
    notes = [line for line in printed.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith(f"note: {paths[1]}: the channels cancel each other")
    assert notes[0].endswith("only channel 1 of 2 is used")


@pytest.mark.corpus
def test_real_stereo_is_mostly_mono_compatible(real_recordings: Path) -> None:
    files = sorted((real_recordings / "prompts").glob("*/[ajs]/*"))
    stereo = [path for path in files if path.suffix in (".wav", ".mp3", ".ogg") and soundfile.info(path).channels == 2]
    assert len(stereo) > 20
    chosen = [path.parts[-3] for path in stereo if mix(*load(path)).channel is not None]
    assert len(set(chosen)) <= 2  # one of them has different echoes in its channels
