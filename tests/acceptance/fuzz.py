"""Reads many generated configs, manifests, recordings and checkpoints: each has to be valid or a UserError.

Hypothesis draws edits of valid files: pieces cut, doubled, overwritten by bytes or by tokens that have meaning in the
format. Each input gets a second of processor time, all of them together a gigabyte. Prints a Markdown table.

    python -m tests.acceptance.fuzz
"""

import argparse
import faulthandler
import io
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from speechmlp.audio.decoding import load_letter
from speechmlp.audio.readers import has_ffmpeg
from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.config.loading import load_config
from speechmlp.data.manifest import read_manifest
from speechmlp.errors import UserError, run_command
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.runs.checkpoint import load_checkpoint, save_checkpoint
from speechmlp.runs.history import EpochRecord
from speechmlp.training.optimizers import build_optimizer

ROOT = Path(__file__).resolve().parents[2]
SECONDS, MEMORY = 1.0, 1 << 30
"""Of processor time for an input; bytes for all of a kind, beyond what the program takes."""

Edit = tuple[float, int, bytes]
"""Where, as a fraction of the length; how many bytes go; what comes."""


@dataclass
class Outcome:
    """What became of the inputs of a kind."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Returns data with edits applied in turn."""
    for where, gone, new in edits:
        place = int(where * len(data))
        data = data[:place] + new + data[place + gone :]
    return data


def edits(tokens: list[bytes]) -> st.SearchStrategy[list[Edit]]:
    """Returns a strategy of a few edits with tokens and bytes."""
    new = st.one_of(st.sampled_from([b"", *tokens]), st.binary(max_size=6))
    return st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 2, 4, 8, 30, 300]), new), max_size=5)


YAML = [
    *rb"""&a *a <<: ? - : [ ] { } ' " | > # = 1e999 .nan -.inf null ~ true 0b_ -1 2001-99-99 epochs""".split(),
    *rb"!!int !!float !!bool !!timestamp !!binary !!set !!str ! !<x> !!python/object/apply:os.system".split(),
    *[b" ", b": ", b"- ", b"\n", b"\n  ", b"\t", b"\0", b"\xff\xfe", b"\xc2\x85", b"\xef\xbb\xbf", b"...\n---\n"],
    *[b"0x" + b"f" * 5000, b"9" * 5000, b"1:" * 500 + b"1", b"[" * 3000, b"{a: " * 300],
    *[b"0001-01-01 00:00:00+23:59", b"!!int x", b"!!timestamp x", b"model: {kind: mlp}", b"%YAML 1.1\n---\n"],
]
TEXT = [
    *rb"""{ } [ ] : , ' " 1e999 nan -1 ../ /etc/passwd path letter split null \ud800 "path":{} "start":[]""".split(),
    *[b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"x" * 140_000, b"[" * 5000],
    *[b"9" * 400, b'"start": true, "end": ' + b"9" * 400],
]
NUMBERS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0", b"\0\0\0\x80"]
AUDIO = [
    *b"RIFF RIFX RF64 WAVE data LIST fact FORM AIFF .snd fLaC OggS ID3".split(),
    *NUMBERS,
    *[b"fmt ", b"NIST_1A\n   1024\n", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xfb\x90\0", b"\1\0", b"\x11\0"],
]
PICKLE = [
    *rb"( ) ] } R b s u 0 . t l N Q PK format hidden blocks".split(),
    *NUMBERS,
    *[b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"\x85R"],
    *[b"q\0", b"h\0", b"\x81", b"\x88", b"K\xff", b"G\x7f\xf8\0\0\0\0\0\0", b"\x8a\4\xff\xff\xff\x7f"],
    *[first + b"\xff\xff\xff\x7f" for first in (b"J", b"X", b"B")],
    *[b"PK\3\4", b"PK\1\2", b"PK\5\6"],
]
WAVS = ("PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")
FORMATS = ("FLAC", "AIFF", "AU", "NIST", "W64", "VOC", "RF64", "RAW")
COMPRESSED = (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("CAF", "ALAC_16"))


def configs(folder: Path) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], Any]]:
    """Returns a strategy of config files, and what reads one."""
    texts = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]
    short = [b"", b"training: {epochs: 3}\n", b"model: {kind: mlp, hidden: [3]}\n", b"device: cpu\n"]
    path = folder / "my.yaml"

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        return load_config(path)

    return st.builds(edited, st.sampled_from([*texts, *short * 4]), edits(YAML)) | st.binary(max_size=60), read


def manifests(folder: Path) -> tuple[st.SearchStrategy[tuple[str, bytes]], Callable[[tuple[str, bytes]], Any]]:
    """Returns a strategy of manifests of the three kinds, and what reads one."""
    tsv = b"path\tletter\tspeaker\tsplit\tstart\tend\na.wav\tA\tanna\ttrain\t0.1\t0.5\nb.wav\tB\tbob\tvalid\t\t\n"
    row = b'{"path": "a.wav", "letter": "A", "speaker": "anna", "start": 0.5, "end": 1}\n'
    kinds = {"tsv": tsv, "csv": tsv.replace(b"\t", b","), "jsonl": row * 2}

    def read(named: tuple[str, bytes]) -> Any:
        path = folder / f"manifest.{named[0]}"
        path.write_bytes(named[1])
        return read_manifest(path)

    names = st.sampled_from(sorted(kinds))
    return st.builds(lambda name, some: (name, edited(kinds[name], some)), names, edits(TEXT)), read


def recordings(folder: Path) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], Any]]:
    """Returns a strategy of recordings of every format, and what reads one."""
    sound = (0.3 * np.sin(np.arange(600) / 5)).astype(np.float32)
    seeds = []
    kinds = [*(("WAV", subtype) for subtype in WAVS), *((form, "PCM_16") for form in FORMATS), *COMPRESSED]
    for form, subtype in kinds:
        file = io.BytesIO()
        soundfile.write(file, sound, SAMPLE_RATE, format=form, subtype=subtype)
        seeds.append(file.getvalue())
    path = folder / "sound"

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        waveform, _ = load_letter(path)
        if waveform.shape != (NUM_SAMPLES,) or not waveform.isfinite().all():
            raise AssertionError(waveform.shape)
        return waveform

    return st.builds(edited, st.sampled_from(seeds), edits(AUDIO)), read


def _rezipped(data: bytes, some: list[Edit]) -> bytes:
    """Returns a checkpoint with edits in its pickle, and a sound archive around it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            new.writestr(part.filename, edited(content, some) if part.filename.endswith("data.pkl") else content)
    return target.getvalue()


def checkpoints(folder: Path) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], Any]]:
    """Returns a strategy of checkpoints, of which half have a sound archive, and what reads one."""
    config = load_config(None, ["front_end={kind: log_mel, hop_length: 4000, n_mels: 8}", "model.hidden=[2]"])
    model = SpeechClassifier(config)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    path = folder / "x.pt"
    record = EpochRecord(1, 10, 0.01, 3.2, 3.1, 0.1, 0.5, True, None)
    save_checkpoint(path, config, model, [record], {"optimizer": optimizer.state_dict(), "model": None})
    whole = path.read_bytes()
    content = torch.load(path, weights_only=True)
    plain = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )

    def replaced(key: str, inner: str | None, value: Any) -> bytes:
        changed = dict(content)
        if inner is not None and isinstance(changed[key], dict):
            changed[key] = {**changed[key], inner: value}
        else:
            changed[key] = value
        target = io.BytesIO()
        torch.save(changed, target)
        return target.getvalue()

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        return load_checkpoint(path)

    keys = st.sampled_from(sorted(content))
    inner = st.none() | st.sampled_from(["model", "front_end", "training", "corpus", "network.layers.0.weight", "x"])
    return (
        st.builds(edited, st.just(whole), edits(PICKLE))
        | st.builds(_rezipped, st.just(whole), edits(PICKLE))
        | st.builds(replaced, keys, inner, plain)
    ), read


KINDS: dict[str, Callable[[Path], tuple[st.SearchStrategy[Any], Callable[[Any], Any]]]] = {
    "config text": configs,
    "manifests": manifests,
    "audio bytes": recordings,
    "checkpoint bytes": checkpoints,
}


def fuzz(kind: str, count: int, number: int = 0) -> Outcome:
    """Returns what became of `count` inputs of a kind.

    Args:
        kind: one of `KINDS`.
        count: how many.
        number: seed of the inputs.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="speechmlp-fuzz-") as scratch:
        strategy, read = KINDS[kind](Path(scratch))

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def each(data: Any) -> None:
            began = time.process_time()
            try:
                read(data)
                result = "valid"
            except UserError as error:
                result = "reported"
                if not all(error.problems) or any(len(problem) > 2000 for problem in error.problems):
                    outcome.failures.append(f"not a clear line: {str(error)[:200]!r} for {data!r:.300}")
            except Exception:
                result = "lost"
                outcome.failures.append(f"{traceback.format_exc(limit=-3)} for {data!r:.300}")
            passed = time.process_time() - began
            if passed > SECONDS:
                outcome.failures.append(f"{passed:.1f} s for {data!r:.300}")
            outcome.slowest = max(outcome.slowest, passed)
            outcome.counts[result] += 1

        each()
    return outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--inputs", type=int, metavar="N", default=10_000, help="of each kind (%(default)s)")
    parser.add_argument("--kind", choices=sorted(KINDS), help="only this one")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the inputs (%(default)s)")
    return parser


def _fuzz(arguments: argparse.Namespace) -> int:
    if arguments.inputs < 1:
        raise UserError(f"--inputs: expected 1 or more, found {arguments.inputs}")
    faulthandler.dump_traceback_later(3600, exit=True)  # a hang ends here, and says where
    has_ffmpeg()  # loads FFmpeg, which takes a second and memory once
    lost = 0
    print(
        "| inputs | tried | reported in one line | valid after all | lost | slowest, s of processor | memory, MB more |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind in [arguments.kind] if arguments.kind else KINDS:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = fuzz(kind, arguments.inputs, arguments.seed)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if more > MEMORY:
            outcome.failures.append(f"{kind}: {more >> 20} MB of memory")
        for failure in outcome.failures:
            print(f"{kind}: {failure}", file=sys.stderr)
        counts = outcome.counts
        row = (counts.total(), counts["reported"], counts["valid"], len(outcome.failures))
        print(f"| {kind} | {' | '.join(map(str, row))} | {outcome.slowest:.2f} | {more >> 20} |", flush=True)
        lost += len(outcome.failures)
    return 1 if lost else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _fuzz, argv)


if __name__ == "__main__":
    sys.exit(main())
