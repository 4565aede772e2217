"""Commands in processes forked from one that has imported PyTorch, which takes longer than most of them.

Run as a program it is that one: it reads a command a line (JSON) and answers with the exit status. The process of each
command is its own, with its arguments, folder, environment, files and signals; but what PyTorch reads of the
environment when it is imported has been read. Where processes cannot be forked safely, commands start from nothing.
"""

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


class Forks:
    """Runs `python -m MODULE ...` and `python FILE ...`; the process it forks from starts with the first one."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, arguments: Sequence[str | Path], folder: Path, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        """Returns what `subprocess.run([sys.executable, *arguments], cwd=folder)` with its output captured would."""
        words = [str(word) for word in arguments]
        if sys.platform != "linux" or (words[0].startswith("-") and words[0] != "-m"):
            command = [sys.executable, *words]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
        if self._server is None:
            command = [sys.executable, __file__]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            files = [str(Path(place) / name) for name in ("output", "errors")]
            wanted = {"words": words, "folder": str(folder), "files": files, "environment": dict(os.environ)}
            self._server.stdin.write(json.dumps(wanted | {"seconds": timeout}) + "\n")
            self._server.stdin.flush()
            status = int(self._server.stdout.readline())
            output, errors = (Path(file).read_text(encoding="utf-8") for file in files)
        if status == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(words, timeout, output, errors)
        return subprocess.CompletedProcess(words, status, output, errors)

    def close(self) -> None:
        """Ends the process that is forked from."""
        if self._server is not None:
            self._server.communicate()


def become(words: list[str], folder: str, files: list[str], environment: dict[str, str], seconds: float) -> None:
    """Makes this process the command's, and runs it."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # which ends it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate([os.devnull, *files]):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.path[0] = folder if words[0] == "-m" else str(Path(words[0]).parent)
    sys.argv = words[1:] if words[0] == "-m" else words
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out, and all else that takes long


def serve() -> None:
    """Forks a process for each line, until there is none."""
    for package in ("pydantic", "torchaudio", "torchcodec", "tqdm", "yaml"):
        importlib.import_module(package)
    gc.freeze()
    for line in sys.stdin:
        process = multiprocessing.get_context("fork").Process(target=become, kwargs=json.loads(line))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    serve()
