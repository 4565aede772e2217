"""Runs commands in processes forked from one that has already imported PyTorch and the package.

Run as a program, this is that process: it reads a command per line (JSON) and answers with the exit status. Each
command has a process of its own with its arguments, folder, environment, files and signals; only what is read from the
environment on import, such as by PyTorch, is already fixed. If forking is not safe, commands start a new interpreter.
"""

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PRELOADED = ("torchaudio", "torchcodec", "matplotlib.pyplot")
NOT_PRELOADED = ("speechmlp.serve.", "speechmlp.export.")
"""Modules whose packages some tests hide."""


class Forks:
    """Runs `python -m MODULE ...` and `python FILE ...`; the process that is forked starts with the first command."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: Sequence[str | Path],
        folder: Path,
        timeout: float = 300,
        stdin: bytes = b"",
        stdout: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Returns the same as `subprocess.run([sys.executable, *arguments], cwd=folder)` with captured output.

        With `stdout`, standard output goes there, which may be a pipe or a device, and is not captured.
        """
        words = [str(word) for word in arguments]
        if sys.platform != "linux" or (words[0].startswith("-") and words[0] != "-m"):
            command = [sys.executable, *words]
            assert stdout is None
            result = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, timeout=timeout, check=False)
            return subprocess.CompletedProcess(words, result.returncode, result.stdout.decode(), result.stderr.decode())
        if self._server is None:
            command = [sys.executable, __file__]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            files = [str(Path(place) / name) for name in ("input", "output", "errors")]
            Path(files[0]).write_bytes(stdin)
            Path(files[1]).touch()
            streams = [files[0], str(stdout or files[1]), files[2]]
            wanted = {"words": words, "folder": str(folder), "files": streams, "environment": dict(os.environ)}
            self._server.stdin.write(json.dumps(wanted | {"seconds": timeout}) + "\n")
            self._server.stdin.flush()
            status = int(self._server.stdout.readline())
            output, errors = (Path(file).read_text(encoding="utf-8") for file in files[1:])
        if status == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(words, timeout, output, errors)
        return subprocess.CompletedProcess(words, status, output, errors)

    def close(self) -> None:
        """Ends the process that is forked."""
        if self._server is not None:
            self._server.communicate()


def become(words: list[str], folder: str, files: list[str], environment: dict[str, str], seconds: float) -> None:
    """Runs a command in this process."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # ends the process
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(files):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY), number)
    sys.stdin = os.fdopen(0)  # multiprocessing has closed it
    sys.path[0] = folder if words[0] == "-m" else str(Path(words[0]).parent)
    sys.argv = words[1:] if words[0] == "-m" else words
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing skips them


def serve() -> None:
    """Forks a process for each line of standard input."""
    for package in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(package)
    for module in pkgutil.walk_packages(importlib.import_module("speechmlp").__path__, "speechmlp."):
        if module.name.count(".") > 1 and not module.name.startswith(NOT_PRELOADED):
            importlib.import_module(module.name)
    gc.freeze()
    for line in sys.stdin:
        process = multiprocessing.get_context("fork").Process(target=become, kwargs=json.loads(line))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    serve()
