import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from speechmlp import evaluate, predict, train
from speechmlp.errors import MAX_PROBLEMS_SHOWN, UserError, run_command
from speechmlp.export import __main__ as export


def run(error: BaseException) -> int:
    def command(_: argparse.Namespace) -> int:
        raise error

    return run_command(argparse.ArgumentParser(), command, [])


def test_user_errors_give_one_line_each_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(UserError("a.wav: broken\nheader", "b.wav: empty")) == 2
    assert capsys.readouterr().err.splitlines() == ["error: a.wav: broken header", "error: b.wav: empty"]


def test_long_lists_of_problems_are_cut_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(UserError(*(f"file {number}" for number in range(MAX_PROBLEMS_SHOWN + 5)))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MAX_PROBLEMS_SHOWN + 1
    assert lines[-1] == "error: and 5 more problems of this kind"


def test_ctrl_c_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB"),
    RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 1280000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    RuntimeError("std::bad_alloc"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", MEMORY, ids=lambda error: str(error)[:30])
def test_short_memory_ends_in_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command(_: argparse.Namespace) -> int:
        try:
            raise error
        except Exception as cause:
            raise ValueError("while exporting") from cause

    for status in (run(error), run_command(argparse.ArgumentParser(), command, [])):
        assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("error: out of memory of the GPU" if "CUDA" in str(error) else "error: out of memory")
        assert line.endswith("; close other programs")
        if amount := re.search(r"allocate (\d.*?B|\d+ bytes)", str(error)):
            assert f"tried to allocate {amount[1]};" in line


def test_commands_say_what_to_reduce(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("speechmlp.evaluation.run.load_checkpoint", fail)
    monkeypatch.setattr("speechmlp.recognition.recognizer.load_checkpoint", fail)
    monkeypatch.setattr("speechmlp.training.run.fit", fail)
    for command, words, advice in (
        (train.main, ["--config", "seed"], "reduce training.batch_size or the widths of the model"),
        (evaluate.main, ["--checkpoint", "x.pt"], "take a smaller model"),
        (predict.main, ["a.wav"], "take shorter recordings, a smaller model"),
        (export.main, [], "export a model of smaller widths"),
    ):
        assert command(words) == 2
        expected = f"error: out of memory of the GPU: tried to allocate 20.00 GiB; {advice}"
        assert capsys.readouterr().err.startswith(expected)


LIMITED = """
import resource, sys
from speechmlp.environment import import_torchaudio
import_torchaudio()
import torch
from speechmlp.train import main
torch.nn.Linear(8, 8)(torch.zeros(2, 8)).sum().backward()  # loads what is loaded late
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_a_model_too_large_for_the_memory_ends_training_in_one_line(tone_corpus: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        LIMITED,
        "--config",
        "seed",
        f"corpus.manifest={tone_corpus}",
        "corpus.audit=false",
    ]
    for width in ("50000", str(10**17), str(10**30)):
        result = subprocess.run(
            [*command, "device=cpu", f"model.hidden=[{width}]"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2, result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: out of memory")
        assert line.endswith("; reduce training.batch_size or the widths of the model (model.hidden, model.width)")
    assert not (tmp_path / "runs").exists()


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())
