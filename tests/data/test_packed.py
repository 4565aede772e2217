import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from speechmlp.audio.decoding import load_letter
from speechmlp.audio_format import FULL_SCALE
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.manifest import read_manifest
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
from tests.conftest import tone


def packs(manifest: Path) -> list[Path]:
    """Returns all files in the cache except locks."""
    return [path for path in (manifest.parent.parent / "cache").iterdir() if path.suffix != ".lock"]


def corpus(manifest: Path, **settings: str) -> CorpusConfig:
    return CorpusConfig(manifest=str(manifest), cache=str(manifest.parent.parent / "cache"), **settings)  # type: ignore[arg-type]


def test_the_pack_contains_the_decoded_files(tone_corpus: Path) -> None:
    packed = open_packed(corpus(tone_corpus))
    utterances = read_manifest(tone_corpus)
    assert packed.utterances == utterances
    assert packed.waveforms.shape == (len(utterances), 16_000)
    assert packed.waveforms.dtype == torch.int16
    for index in (0, 30, 155):
        waveform, length = load_letter(utterances[index].path)
        assert int(packed.lengths[index]) == length
        assert (packed.waveforms[index].float() / FULL_SCALE - waveform).abs().max() <= 0.5 / FULL_SCALE + 1e-7
    assert packed.labels.tolist() == list(range(26)) * 6


def test_a_margin_in_the_manifest_wins_over_the_setting(tmp_path: Path) -> None:
    manifest = tmp_path / "tones" / "manifest.tsv"
    manifest.parent.mkdir()
    soundfile.write(manifest.parent / "a.wav", tone(300, 2.0), 16_000)
    rows = [f"a.wav\tA\t{start}\t{start + 0.3}\t{margin}" for start, margin in ((0.5, ""), (1.0, "0"), (1.4, "0.2"))]
    manifest.write_text("\n".join(["path\tletter\tstart\tend\tmargin", *rows]))
    assert open_packed(corpus(manifest)).lengths.tolist() == [8000, 4800, 11_200]


def test_several_processes_decode_the_same_as_one(tone_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = read_manifest(tone_corpus)
    for broken in (40, 41, 155):
        utterances[broken].path.write_bytes(b"no audio")
    alone = open_packed(corpus(tone_corpus, on_error="skip"))
    for pack in packs(tone_corpus):
        shutil.rmtree(pack)
    monkeypatch.setattr("speechmlp.data.packed.WORTH", 1)
    before = torch.get_rng_state()
    together = open_packed(corpus(tone_corpus, on_error="skip"))
    assert together.decoded
    assert torch.equal(torch.get_rng_state(), before)
    assert together.utterances == alone.utterances
    assert together.skipped == alone.skipped
    assert len(together.skipped) == 3
    assert torch.equal(together.waveforms, alone.waveforms)
    assert torch.equal(together.lengths, alone.lengths)


def test_a_killed_process_is_reported_in_one_line(tone_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmlp.data.packed.WORTH", 1)
    monkeypatch.setattr("speechmlp.data.packed.load_letter", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="was killed"):
        open_packed(corpus(tone_corpus))
    assert packs(tone_corpus) == []


def test_nothing_is_decoded_the_second_time(tone_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_packed(corpus(tone_corpus)).decoded
    monkeypatch.setattr("speechmlp.data.packed.load_letter", None)
    packed = open_packed(corpus(tone_corpus))
    assert not packed.decoded
    assert packed.waveforms.shape[0] == 156


def test_runs_that_start_together_decode_once(tone_corpus: Path) -> None:
    program = (
        "import sys; from speechmlp.config.schema import CorpusConfig; from speechmlp.data.packed import open_packed\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "packed = open_packed(CorpusConfig(manifest=sys.argv[1], cache=sys.argv[2]))\n"
        "print(packed.decoded, packed.waveforms.shape[0])"
    )
    command = [sys.executable, "-c", program, str(tone_corpus), str(tone_corpus.parent.parent / "cache")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate() for process in processes]
    assert sorted(out for out, _ in results) == ["False 156\n"] * 2 + ["True 156\n"], results
    assert len(packs(tone_corpus)) == 1


def test_a_changed_file_is_detected(tone_corpus: Path) -> None:
    before = open_packed(corpus(tone_corpus))
    path = before.utterances[3].path
    status = path.stat()
    soundfile.write(path, tone(3000, 0.3), 16_000, subtype="PCM_16")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same modification time
    assert path.stat().st_size == status.st_size
    after = open_packed(corpus(tone_corpus))
    assert after.decoded
    assert not torch.equal(after.waveforms[3], before.waveforms[3])
    assert torch.equal(after.waveforms[4], before.waveforms[4])


def test_a_changed_manifest_and_changed_settings_are_detected(tone_corpus: Path) -> None:
    open_packed(corpus(tone_corpus))
    assert open_packed(corpus(tone_corpus, on_error="skip")).decoded
    text = tone_corpus.read_text()
    tone_corpus.write_text(text.replace("\tA\t", "\tB\t"))
    assert open_packed(corpus(tone_corpus)).labels.tolist()[0] == 1
    assert len(packs(tone_corpus)) == 2  # one per set of settings; old packs are replaced, no temporary files are left


def test_unreadable_recordings_are_listed_and_nothing_is_written(tone_corpus: Path) -> None:
    paths = [utterance.path for utterance in read_manifest(tone_corpus)]
    paths[5].write_text("not audio")
    paths[9].unlink()
    with pytest.raises(UserError) as caught:
        open_packed(corpus(tone_corpus))
    first, *rest = caught.value.problems
    assert first.startswith("2 of 156 recordings cannot be read; corpus.on_error=skip")
    assert [problem.split(": ")[0] for problem in rest] == [str(paths[5]), str(paths[9])]
    assert packs(tone_corpus) == []


def test_unreadable_recordings_can_be_skipped(tone_corpus: Path) -> None:
    path = read_manifest(tone_corpus)[5].path
    path.write_text("not audio")
    packed = open_packed(corpus(tone_corpus, on_error="skip"))
    assert len(packed.utterances) == len(packed.labels) == packed.waveforms.shape[0] == 155
    assert path not in {utterance.path for utterance in packed.utterances}
    assert len(packed.skipped) == 1
    soundfile.write(path, tone(500, 0.3), 16_000)
    assert len(open_packed(corpus(tone_corpus, on_error="skip")).utterances) == 156


def test_a_damaged_pack_is_replaced(tone_corpus: Path) -> None:
    open_packed(corpus(tone_corpus))
    (folder,) = packs(tone_corpus)
    with (folder / "waveforms.i16").open("r+b") as file:
        file.truncate(1000)
    assert open_packed(corpus(tone_corpus)).decoded
    (folder / "index.json").write_text("{")
    assert open_packed(corpus(tone_corpus)).decoded


def test_an_unwritable_cache_is_reported(tone_corpus: Path) -> None:
    blocked = tone_corpus.parent / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write the decoded corpus"):
        open_packed(CorpusConfig(manifest=str(tone_corpus), cache=str(blocked / "cache")))


def test_writing_to_a_pack_in_memory_does_not_change_the_file(tone_corpus: Path) -> None:
    packed = open_packed(corpus(tone_corpus))
    before = packed.waveforms[0].clone()
    packed.waveforms[0].zero_()
    assert torch.equal(open_packed(corpus(tone_corpus)).waveforms[0], before)
