"""Recordings in containers of many kinds, under names that are wrong: the content decides."""

import io
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from speechmlp.audio.decoding import load
from speechmlp.audio.resampling import resample
from speechmlp.errors import UserError

RATE = 16_000
NAMES = ("a.wav", "b.mp3", "c.ogg", "d.weba", "e.raw", "f.m4a", "g.gsm", "h", "i.RAW")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")


def chirp(seconds: float = 1.3) -> NDArray[np.float32]:
    """Returns a swelling chirp between noise, which no delay leaves the same."""
    time = np.arange(round(seconds * RATE)) / RATE
    swell = np.exp(-(((time - seconds / 2) / 0.2) ** 2))
    noise = 0.002 * np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * swell * np.sin(2 * np.pi * (300 * time + 200 * time**2)) + noise).astype(np.float32)


SOUND = chirp()
INTEGERS = (SOUND * 32767).astype("<i2")
PCM = INTEGERS.tobytes()


def ffmpeg(*options: str, sound: NDArray[np.float32] = SOUND) -> bytes:
    """Returns what FFmpeg writes to a pipe, where it cannot go back to write a length."""
    command = ["ffmpeg", "-loglevel", "error", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-", *options, "-"]
    return subprocess.run(command, input=sound.tobytes(), capture_output=True, check=True).stdout


def ffmpeg_file(path: Path, *options: str) -> bytes:
    """Returns a file that FFmpeg writes, with its length."""
    command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-", *options]
    subprocess.run([*command, str(path)], input=SOUND.tobytes(), check=True)
    return path.read_bytes()


def written(form: str, subtype: str, sound: NDArray[np.float32] = SOUND) -> bytes:
    """Returns a file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format=form, subtype=subtype)
    return file.getvalue()


def assert_is_sound(waveform: torch.Tensor, rate: int, least: float = 0.95, delay: int = 0) -> None:
    """Checks that a waveform is SOUND, at most `delay` samples later."""
    mono = resample(waveform[0], rate, RATE).numpy()
    assert len(SOUND) - 1 <= len(mono) <= len(SOUND) + 3000
    size = 1 << 16
    product = np.fft.irfft(np.fft.rfft(mono, size) * np.conj(np.fft.rfft(SOUND, size)), size)
    assert 0 <= int(product.argmax()) <= delay
    assert product.max() / np.linalg.norm(mono) / np.linalg.norm(SOUND) > least


def riff(*chunks: bytes, size: int | None = None, name: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data


FORM = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
FLOAT = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32))
LIST = chunk(b"LIST", b"INFOISFT\x06\0\0\0Lavf5\0")
ALL_ONES = 0xFFFFFFFF
LOUD = (SOUND[:20_800] * 32767).astype(">i2").tobytes()


def ds64(size: int) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", size, size, 0, 0))


UNFINISHED = {
    "size of 0": riff(FORM, chunk(b"data", PCM, 0), size=0),
    "data of 0": riff(FORM, chunk(b"data", PCM, 0)),
    "data of 0 after a list": riff(FORM, LIST, chunk(b"data", PCM, 0), size=0),
    "floats of 0": riff(FLOAT, chunk(b"data", (INTEGERS / 32768).astype("<f4").tobytes(), 0), size=0),
    "size of all ones": riff(FORM, chunk(b"data", PCM, ALL_ONES), size=ALL_ONES),
    "size of 2 GB": riff(FORM, chunk(b"data", PCM, 0x7FFFFFFF), size=0x7FFFFFFF),
    "too long": riff(FORM, chunk(b"data", PCM, len(PCM) + 5000)),
    "followed by a list": riff(FORM, chunk(b"data", PCM), LIST),
    "odd chunk": riff(FORM, chunk(b"junk", b"abc") + b"\0", chunk(b"data", PCM)),
    "odd chunk without padding": riff(FORM, chunk(b"junk", b"abc"), chunk(b"data", PCM)),
    "half a sample": riff(FORM, chunk(b"data", PCM + b"\1")),
    "RF64 of 0": riff(ds64(0), FORM, chunk(b"data", PCM, ALL_ONES), size=ALL_ONES, name=b"RF64"),
    "RF64 of all ones": riff(ds64(2**64 - 1), FORM, chunk(b"data", PCM, ALL_ONES), size=ALL_ONES, name=b"RF64"),
    "BW64": riff(ds64(len(PCM)), FORM, chunk(b"data", PCM, ALL_ONES), size=ALL_ONES, name=b"BW64"),
    "AU of 0": b".snd" + struct.pack(">5I", 24, 0, 3, RATE, 1) + LOUD,
    "AU of all ones": b".snd" + struct.pack(">5I", 24, ALL_ONES, 3, RATE, 1) + LOUD,
    "CAF of -1": b"caff\0\1\0\0desc"
    + struct.pack(">QdIIIIII", 32, RATE, 0x6C70636D, 2, 2, 1, 1, 16)
    + (b"data" + struct.pack(">q", -1) + bytes(4) + PCM),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_recordings_with_unfinished_headers_are_read_to_their_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(UNFINISHED[name])
    waveform, rate = load(path)
    assert rate == RATE
    assert torch.equal(waveform[0], torch.from_numpy(INTEGERS / np.float32(32768)))
    assert torch.equal(load(path, 0.5, 0.75)[0], waveform[:, 8000:12_000])


def test_a_recording_without_samples_is_not_filled_with_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(riff(FORM, chunk(b"data", b""), LIST))
    with pytest.raises(UserError, match="contains no samples"):
        load(path)
    path.write_bytes(riff(FORM, chunk(b"data", PCM[:20_000]), LIST))
    assert load(path)[0].shape == (1, 10_000)


CODECS = [("WAV", code) for code in ("GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "IMA_ADPCM")]
CODECS += [("WAV", "MS_ADPCM"), ("WAV", "ULAW"), ("W64", "PCM_24"), ("W64", "GSM610"), ("RF64", "FLOAT")]
CODECS += [("AIFF", "GSM610"), ("AIFF", "DWVW_16"), ("AU", "G721_32"), ("AU", "G723_40"), ("CAF", "ALAC_16")]
CODECS += [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_24"), ("NIST", "PCM_16")]


@pytest.mark.parametrize(("form", "subtype"), CODECS)
def test_codecs_of_libsndfile_are_read_under_any_name(tmp_path: Path, form: str, subtype: str) -> None:
    """Also those that libsndfile cannot seek in; parts are the same samples as in the whole."""
    data = written(form, subtype)
    for name in NAMES:
        (tmp_path / name).write_bytes(data)
    whole, rate = load(tmp_path / NAMES[0])
    assert_is_sound(whole, rate, 0.8, delay=16)
    for name in NAMES[1:]:
        assert torch.equal(load(tmp_path / name)[0], whole)
    for start, end in ((0.0, 0.4), (0.3, 0.7), (1.1, 1.25), (1.2, 9.0)):
        part, _ = load(tmp_path / "e.raw", start, end)
        assert torch.equal(part, whole[:, round(start * rate) : round(end * rate)])


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_parts_of_lossy_recordings_are_exact_everywhere(tmp_path: Path, rate: int) -> None:
    """Seeking in the last page of Vorbis was 1 to 4 ms off."""
    generator = np.random.default_rng(rate)
    sound = 0.1 * generator.standard_normal((4 * rate, 2))
    for form, subtype in (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), *([("OGG", "OPUS")] * (rate != 44_100))):
        path = tmp_path / "a.file"
        soundfile.write(path, sound, rate, format=form, subtype=subtype)
        whole, _ = load(path)
        for start in (*generator.uniform(0, 4, 12), *generator.uniform(3.5, 3.99, 12)):
            first = round(start * rate)
            assert torch.equal(load(path, start, start + 0.2)[0], whole[:, first : round((start + 0.2) * rate)])


@needs_ffmpeg
def test_flac_of_unknown_length_is_read_to_its_end_or_to_where_it_is_cut_off(tmp_path: Path) -> None:
    data = ffmpeg("-f", "flac")
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    whole, rate = load(path)
    assert_is_sound(whole, rate)
    assert whole.shape == (1, len(SOUND))
    assert torch.equal(load(path, 0.9, 1.2)[0], whole[:, 14_400:19_200])
    for broken in (data[:20_000], data + b"\x55" * 3000, written("FLAC", "PCM_16")[:15_000]):
        path.write_bytes(broken)
        cut, _ = load(path)
        assert 4000 < cut.shape[1] <= len(SOUND)
        assert (cut - whole[:, : cut.shape[1]]).abs().max() < 1e-4
    for intact in (data, written("FLAC", "PCM_16")):  # a hole is not an end
        path.write_bytes(intact[:10_000] + bytes(60) + intact[10_060:])
        with pytest.raises(UserError, match=r"is damaged: samples are missing after 0\.\d+ s"):
            load(path)


STREAMS = {
    "WebM": ["-f", "webm", "-c:a", "libopus"],
    "Matroska": ["-f", "matroska", "-c:a", "pcm_s16le"],
    "WebM of Vorbis": ["-f", "webm", "-c:a", "libvorbis"],
    "fragmented MP4": ["-f", "mp4", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
    "AAC": ["-f", "adts", "-c:a", "aac"],
    "Ogg Opus": ["-f", "ogg", "-c:a", "libopus"],
    "Ogg Vorbis": ["-f", "ogg", "-c:a", "libvorbis"],
    "Ogg FLAC": ["-f", "ogg", "-c:a", "flac"],
    "MP3": ["-f", "mp3"],
    "WAV": ["-f", "wav"],
    "WMA": ["-f", "asf", "-c:a", "wmav2"],
    "MPEG-TS": ["-f", "mpegts", "-c:a", "mp2"],
    "CAF": ["-f", "caf", "-c:a", "pcm_s16be"],
    "G.726 in WAV": ["-f", "wav", "-ar", "8000", "-c:a", "adpcm_g726"],
}


@needs_ffmpeg
@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    """As browsers and pipes write them: without a duration."""
    data = ffmpeg(*STREAMS[name], sound=np.concatenate([SOUND, np.zeros(800, np.float32)]))
    for wrong in NAMES:
        (tmp_path / wrong).write_bytes(data)
    whole, rate = load(tmp_path / NAMES[0])
    delay = {"AAC": 1024, "MP3": 1105, "MPEG-TS": 481}.get(name, 8)
    if name != "WMA":  # FFmpeg leaves out the first frame
        assert_is_sound(whole, rate, 0.8, delay)
    for wrong in NAMES[1:]:
        assert torch.equal(load(tmp_path / wrong)[0], whole)
    assert torch.equal(load(tmp_path / "a.wav", 0.5, 0.8)[0], whole[:, round(0.5 * rate) : round(0.8 * rate)])
    with pytest.raises(UserError, match=r"a\.wav: expected at most 1 s, found (more|1\.\d+ s);"):
        load(tmp_path / "a.wav", max_seconds=1)


@needs_ffmpeg
@pytest.mark.parametrize("options", [(), ("-movflags", "+faststart"), ("-c:a", "alac")])
def test_m4a_is_read_under_any_name(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = ffmpeg_file(tmp_path / "x.m4a", *options)
    for wrong in NAMES:
        (tmp_path / wrong).write_bytes(data)
        assert_is_sound(*load(tmp_path / wrong))


@needs_ffmpeg
def test_m4a_on_standard_input_is_read(tmp_path: Path, spoken_checkpoint: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "speechmlp.predict",
        "-",
        "--device",
        "cpu",
        "--checkpoint",
        str(spoken_checkpoint),
    ]
    result = subprocess.run(command, input=ffmpeg_file(tmp_path / "x.m4a"), capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"-: ")


@needs_ffmpeg
def test_playlists_are_not_followed(tmp_path: Path) -> None:
    """FFmpeg would open the files and addresses they name."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(ffmpeg(*STREAMS["MPEG-TS"]))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    concat = f"ffconcat version 1.0\nfile '{secret}'\n".encode()
    for text in (playlist, tagged + playlist, concat, b"v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"):
        path = tmp_path / "a.m4a"
        path.write_bytes(text)
        with pytest.raises(UserError, match="cannot be decoded as audio"):
            load(path)


def mp3s() -> dict[str, bytes]:
    """Returns the same MP3 among other bytes, and damaged ones."""
    mp3 = written("MP3", "MPEG_LAYER_III")
    junk = np.random.default_rng(0).integers(0, 254, 3000, dtype=np.uint8).tobytes()
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    flipped = bytearray(mp3)
    for position in np.random.default_rng(1).integers(500, len(mp3), 60):
        flipped[position] ^= 16
    return {
        "junk": junk[:100] + mp3,
        "zeros": bytes(70_000) + mp3,
        "two tags": tag + tag + mp3,
        "end": mp3 + junk,
        "ID3v1": mp3 + b"TAG" + bytes(125),
        "APE": mp3 + b"APETAGEX\xd0\x07\0\0\x20\0\0\0\1\0\0\0\0\0\0\x80" + bytes(8),
        "cut": mp3[:-70],
        "flipped": bytes(flipped),
    }


def test_mp3_is_found_between_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(written("MP3", "MPEG_LAYER_III"))
    whole, rate = load(path)
    for name, data in mp3s().items():
        path.write_bytes(data)
        found, _ = load(path)
        assert found.shape[1] == pytest.approx(whole.shape[1], abs=1200), name
        if name not in ("cut", "flipped"):
            assert_is_sound(found, rate, delay=1200)


@needs_ffmpeg
@pytest.mark.parametrize("loud_first", [True, False])
def test_mp3_of_variable_rate_without_a_length_is_read_to_its_end(tmp_path: Path, loud_first: bool) -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    halves = [np.zeros(3 * RATE, np.float32), noise]
    sound = np.concatenate(halves[::-1] if loud_first else halves)
    (tmp_path / "a.mp3").write_bytes(ffmpeg("-f", "mp3", "-q:a", "2", "-write_xing", "0", sound=sound))
    waveform, _ = load(tmp_path / "a.mp3")
    assert waveform.shape[1] == pytest.approx(len(sound), abs=2400)


NOISY = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from speechmlp.audio.decoding import load
from speechmlp.errors import UserError

def read(path):
    try:
        return load(path)[0].shape[1]
    except UserError as error:
        return str(error)

stop = threading.Event()
def talk():
    while not stop.is_set():
        print("talk", file=sys.stderr, flush=True)
        stop.wait(0.001)
talker = threading.Thread(target=talk)
talker.start()
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(read, sys.argv[1:] * 20))
stop.set()
talker.join()
import ctypes
libc = ctypes.CDLL(None)
libc.fputs(b"loud\\n", ctypes.c_void_p.in_dll(libc, "stderr"))
libc.fflush(None)
assert found == [read(path) for path in sys.argv[1:]] * 20
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries are not silenced")
def test_decoders_print_nothing_while_other_threads_print(tmp_path: Path) -> None:
    for name, data in mp3s().items():
        (tmp_path / f"{name}.mp3").write_bytes(data)
    paths = sorted(map(str, tmp_path.iterdir()))
    result = subprocess.run([sys.executable, "-c", NOISY, *paths], capture_output=True, text=True, check=False)
    lines = result.stderr.splitlines()
    assert result.returncode == 0, lines[-5:]
    assert set(lines) == {"talk", "loud"}  # the C library's stderr is the same again
    assert lines[-1] == "loud"


def test_threads_read_the_same_as_one(tmp_path: Path) -> None:
    paths = []
    for number, (form, subtype) in enumerate(CODECS):
        paths.append(tmp_path / f"{number}.raw")
        paths[-1].write_bytes(written(form, subtype))
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(load, paths * 3))
    for (waveform, _), path in zip(together, paths * 3, strict=True):
        assert torch.equal(waveform, load(path)[0])
