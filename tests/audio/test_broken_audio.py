"""Recordings that are broken in many ways: each is reported in one line, or is decoded after all."""

import os
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmlp.audio.decoding import load_letter
from speechmlp.audio.readers import has_ffmpeg
from speechmlp.audio_format import NUM_SAMPLES
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
from tests.conftest import ROOT, Run, tone

RATE = 16_000
SOUND = tone(440, 0.4)


def wav(
    data: bytes, rate: int = RATE, channels: int = 1, bits: int = 16, kind: int = 1, length: int | None = None
) -> bytes:
    """Returns a WAV file with the given header, whether it is true or not."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width & 0xFFFFFFFF, width, bits)
    size = len(data) if length is None else length
    return (
        b"RIFF"
        + struct.pack("<I", size + 36 & 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + (b"data" + struct.pack("<I", size) + data)
    )


PCM = (SOUND * 32767).astype("<i2").tobytes()
FLOATS = SOUND.astype("<f4")

FILES: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", "cannot be decoded"),
    "header only": (wav(b""), "contains no samples"),
    "half a header": (wav(PCM)[:30], "cannot be decoded"),
    "text": (b"hello, this is no sound\n" * 50, "cannot be decoded"),
    "wrong magic": (b"RIFQ" + wav(PCM)[4:], "cannot be decoded"),
    "zero rate": (wav(PCM, rate=0), "cannot be decoded"),
    "absurd rate": (wav(PCM, rate=4_000_000_000), "cannot be decoded"),
    "rate of 1 Hz": (wav(PCM, rate=1), "expected at most 3600 s"),
    "zero channels": (wav(PCM, channels=0), "cannot be decoded"),
    "zero bits": (wav(PCM, bits=0), "cannot be decoded"),
    "unknown codec": (wav(PCM, kind=0x7777), "cannot be decoded"),
    "not a number": (wav(np.append(FLOATS, np.nan).astype("<f4").tobytes(), bits=32, kind=3), "NaN or infinite"),
    "infinite": (wav(np.append(FLOATS, -np.inf).astype("<f4").tobytes(), bits=32, kind=3), "NaN or infinite"),
    "not scaled": (wav((FLOATS * 32768).tobytes(), bits=32, kind=3), "expected samples between -1 and 1"),
    "random": (np.random.default_rng(0).bytes(5000), "cannot be decoded"),
    "zeros": (wav(bytes(8000)), "contains only zeros"),
    # Not broken, or not so much that they cannot be decoded:
    "truncated": (wav(PCM)[:5000], None),
    "absurd length": (wav(PCM, length=0xFFFFFFF0), None),
    "one sample": (wav(PCM[1000:1002]), None),
}
SUBTYPES = {
    "8 bits": "PCM_U8",
    "24 bits": "PCM_24",
    "32 bits": "PCM_32",
    "64 bits": "DOUBLE",
    "A-law": "ALAW",
    "mu-law": "ULAW",
    "ADPCM": "IMA_ADPCM",
    "32 channels": "PCM_16",
}
OTHERS = {
    "absent": "no such recording",
    "folder": "found a folder",
    "dangling link": "a link to a missing file",
    "circle of links": "cannot be read",
    "pipe": "found a pipe or device",
    "device": "found a pipe or device",
    "absurd length in FLAC": None,
}
PROBLEMS = {**{name: problem for name, (_, problem) in FILES.items()}, **OTHERS}
BROKEN = [name for name, problem in PROBLEMS.items() if problem is not None]


def make(folder: Path, name: str) -> Path:
    """Writes a recording of a kind; returns its path."""
    path = folder / f"{name}.wav"
    folder.mkdir(parents=True, exist_ok=True)
    if name in FILES:
        path.write_bytes(FILES[name][0])
    elif name in SUBTYPES:
        sound = np.repeat(SOUND[:, None], 32, 1) if name == "32 channels" else SOUND
        soundfile.write(path, sound, RATE, subtype=SUBTYPES[name])
    elif name == "folder":
        path.mkdir()
    elif name in ("dangling link", "circle of links", "device"):
        targets = {"dangling link": folder / "nowhere", "circle of links": path, "device": Path("/dev/zero")}
        path.symlink_to(targets[name])
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "absurd length in FLAC":
        soundfile.write(path, SOUND, RATE, format="FLAC")
        data = bytearray(path.read_bytes())
        data[21] |= 0x0F  # the upper bits of how many samples there are: now 64 thousand million
        path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def ffmpeg() -> bool:
    """Loads FFmpeg, if it is there, which takes memory once."""
    return has_ffmpeg()


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("name", [*FILES, *SUBTYPES, *OTHERS])
def test_a_recording_gives_a_second_or_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name)
    problem = PROBLEMS.get(name)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        waveform, length = load_letter(path)
    except UserError as error:
        assert problem is not None or name == "absurd length in FLAC", error
        assert str(error).startswith(f"{path}: ")
        assert (problem or "expected at most 3600 s") in str(error)
        assert len(error.problems) == len(str(error).splitlines()) == 1
    else:
        assert problem is None or name == "zeros"
        assert waveform.shape == (NUM_SAMPLES,)
        assert waveform.isfinite().all()
        assert 0 < length <= NUM_SAMPLES
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50e6
    assert time.perf_counter() - started < 5


def test_missing_permission_is_reported(tmp_path: Path) -> None:
    path = make(tmp_path, "8 bits")
    closed = make(tmp_path / "closed", "8 bits")
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    closed.parent.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read everything
        for one in (path, closed):
            with pytest.raises(UserError, match=r"8 bits\.wav: cannot be read: Permission denied$"):
                load_letter(one)
    finally:
        os.seteuid(user)
        closed.parent.chmod(0o700)


@pytest.fixture
def broken_corpus(tone_corpus: Path) -> Path:
    """The tones, followed by a recording of every broken kind."""
    utterances = read_manifest(tone_corpus)
    folder = tone_corpus.parent / "broken"
    utterances += [Utterance(folder / f"{name}.wav", "A", "broken", "train") for name in BROKEN]
    write_manifest(tone_corpus, utterances)
    for name in BROKEN:
        make(folder, name)
    text = tone_corpus.read_text(encoding="utf-8")  # links and devices by their own path, not by their target
    text = text.replace("/dev/zero", "broken/device.wav").replace("broken/nowhere", "broken/dangling link.wav")
    tone_corpus.write_text(text, encoding="utf-8")
    return tone_corpus


def test_decoding_lists_broken_recordings_or_skips_them_up_to_a_limit(broken_corpus: Path, tmp_path: Path) -> None:
    corpus = CorpusConfig(manifest=str(broken_corpus), cache=str(tmp_path / "cache"), skip_limit=0.5)
    with pytest.raises(UserError) as caught:
        open_packed(corpus)
    assert caught.value.problems[0].startswith(f"{len(BROKEN)} of {156 + len(BROKEN)} recordings cannot be read")
    for name, problem in zip(BROKEN, caught.value.problems[1:], strict=True):
        assert problem.startswith(f"{broken_corpus.parent}/broken/{name}.wav: ")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    packed = open_packed(corpus.model_copy(update={"on_error": "skip"}))
    assert (len(packed.utterances), len(packed.skipped)) == (156, len(BROKEN))
    limit = rf"{len(BROKEN)} of {156 + len(BROKEN)} .* fraction of 0\.1 that corpus\.skip_limit"
    for _ in range(2):  # when it is decoded, and when it has been
        with pytest.raises(UserError, match=limit):
            open_packed(corpus.model_copy(update={"on_error": "skip", "skip_limit": 0.1}))


def test_training_and_predict_report_the_same(broken_corpus: Path, run_python: Run, tmp_path: Path) -> None:
    config = ["--config", ROOT / "configs" / "quickstart.yaml", f"corpus.manifest={broken_corpus}", "device=cpu"]
    trained = run_python("-m", "speechmlp.train", *config)
    assert trained.returncode == 2
    assert len(trained.stderr.splitlines()) == 1 + len(BROKEN)
    assert not (tmp_path / "runs").exists()
    paths = [broken_corpus.parent / "broken" / f"{name}.wav" for name in BROKEN]
    whole = [broken_corpus.parent / "s0" / f"{letter}.wav" for letter in "ABC"]
    predicted = run_python("-m", "speechmlp.predict", *paths, *whole, "--device", "cpu")
    assert predicted.returncode == 2
    silent = f"{broken_corpus.parent}/broken/zeros.wav: not a letter"  # which is an answer
    assert predicted.stdout.startswith(silent)
    assert len(predicted.stdout.splitlines()) == 4
    expected = [line.removeprefix("error: ") for line in trained.stderr.splitlines()[1:] if "only zeros" not in line]
    assert [line.removeprefix("error: ") for line in predicted.stderr.splitlines()] == expected
