"""Decoding: real files of many formats, compared with scipy and with what was written."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from speechmlp.audio.decoding import load, load_letter, to_mono_16k
from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.errors import UserError
from tests.conftest import tone


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_U8", 1e-2),
        ("wav", "PCM_24", 1e-6),
        ("wav", "FLOAT", 1e-6),
        ("wav", "DOUBLE", 1e-6),
        ("wav", "ULAW", 5e-2),
        ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("au", "PCM_16", 1e-4),
        ("nist", "PCM_16", 1e-4),
    ],
)
def test_formats_are_read_as_written(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    wave = tone(440, 0.5)
    path = tmp_path / "a.file"
    soundfile.write(path, wave, SAMPLE_RATE, subtype=subtype, format=suffix.upper())
    waveform, rate = load(path)
    assert rate == SAMPLE_RATE
    assert waveform.shape == (1, len(wave))
    assert np.abs(waveform[0].numpy() - wave).max() < tolerance


@pytest.mark.parametrize(("suffix", "subtype"), [("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")])
def test_compressed_formats_keep_the_sound(tmp_path: Path, suffix: str, subtype: str) -> None:
    wave = tone(440, 1.0, 44_100)
    soundfile.write(tmp_path / f"a.{suffix}", wave, 44_100, subtype=subtype)
    waveform, length = load_letter(tmp_path / f"a.{suffix}")
    spectrum = torch.fft.rfft(waveform).abs()
    assert int(spectrum.argmax()) == 440
    assert length >= 15_900


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_500, 22_050, 44_100, 48_000])
def test_resampling_agrees_with_scipy(rate: int) -> None:
    wave = tone(300, 1.0, rate) + tone(1700, 1.0, rate, 0.2)
    ours = to_mono_16k(torch.from_numpy(wave)[None], rate).numpy()
    theirs = scipy.signal.resample_poly(wave.astype(np.float64), SAMPLE_RATE, rate)
    assert len(ours) == NUM_SAMPLES
    inner = slice(800, -800)  # the two treat the edges differently
    assert np.abs(ours[inner] - theirs[inner]).max() < 5e-3


@pytest.mark.parametrize("rate", [7_919, 22_051, 26_123, 191_999])
def test_odd_rates_are_resampled_quickly_and_correctly(rate: int) -> None:
    started = time.perf_counter()
    resampled = to_mono_16k(torch.from_numpy(tone(1000, 1.0, rate))[None], rate)
    assert time.perf_counter() - started < 20  # the exact kernel took minutes, and gigabytes
    assert len(resampled) == pytest.approx(16_000, rel=1e-3)
    spectrum = torch.fft.rfft(resampled * torch.hann_window(len(resampled))).abs()
    assert spectrum.argmax().item() / len(resampled) * 16_000 == pytest.approx(1000, abs=2)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(300, 0.5), tone(900, 0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), SAMPLE_RATE, subtype="FLOAT")
    waveform, rate = load(tmp_path / "a.wav")
    assert waveform.shape == (2, 8000)
    assert torch.allclose(to_mono_16k(waveform, rate), torch.from_numpy(left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_decoded_part_equals_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(440, 2.0, 44_100) * np.linspace(0, 1, 88_200, dtype=np.float32), 44_100)
    whole, rate = load(path)
    part, _ = load(path, 0.5, 1.25)
    assert part.shape[1] == round(0.75 * rate)
    assert torch.allclose(part, whole[:, rate // 2 : rate // 2 + part.shape[1]], atol=1e-4)


def test_margins_stop_at_the_ends_of_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, 0.5), SAMPLE_RATE)
    assert load_letter(path, 0.2, 0.3, margin=0.1)[1] == round(0.3 * SAMPLE_RATE)
    assert load_letter(path, 0.05, 0.45, margin=0.1)[1] == round(0.5 * SAMPLE_RATE)
    assert load_letter(path, margin=0.1)[1] == round(0.5 * SAMPLE_RATE)


def test_files_that_are_not_recordings_are_reported(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), SAMPLE_RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan], np.float32), SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "fast.wav", np.zeros(10, np.float32), 1_000_000)
    cases = {
        "absent.wav": "no such recording",
        "folder.wav": "expected an audio file",
        "text.wav": "cannot be decoded as audio",
        "empty.wav": "cannot be decoded as audio",
        "none.wav": "contains no samples",
        "nan.wav": "NaN or infinite",
        "fast.wav": "expected a sample rate",
    }
    for name, problem in cases.items():
        with pytest.raises(UserError) as caught:
            load(tmp_path / name)
        assert problem in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
    soundfile.write(tmp_path / "short.wav", tone(440, 0.5), SAMPLE_RATE)
    with pytest.raises(UserError, match="contains no samples between 2 and 3 s"):
        load(tmp_path / "short.wav", 2, 3)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
def test_m4a_is_read_through_ffmpeg(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 1.0, 44_100), 44_100)
    command = ["ffmpeg", "-loglevel", "error", "-i", str(tmp_path / "a.wav"), str(tmp_path / "a.m4a")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    waveform, _ = load_letter(tmp_path / "a.m4a")
    assert int(torch.fft.rfft(waveform).abs().argmax()) == 440
    part, length = load_letter(tmp_path / "a.m4a", 0.25, 0.5)
    assert abs(length - 4000) <= 2
    assert part.abs().max() > 0.4


def test_missing_ffmpeg_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(b"\0\0\0\x20ftypM4A ")
    monkeypatch.setitem(__import__("sys").modules, "torchcodec", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"a\.wav: M4A or MP4 needs FFmpeg: install .*speechmlp\[ffmpeg\]") as caught:
        load(tmp_path / "a.wav")
    assert len(caught.value.problems) == 1


@pytest.mark.corpus
def test_every_real_prompt_is_decoded_to_a_second(real_recordings: Path) -> None:
    files = sorted(path for path in (real_recordings / "prompts").glob("*/*/*") if path.suffix != ".m4a")
    assert len(files) > 600
    for path in files[::7]:
        waveform, length = load_letter(path)
        assert waveform.shape == (NUM_SAMPLES,)
        assert 0 < length <= NUM_SAMPLES
        assert waveform.abs().max() > 1e-3
