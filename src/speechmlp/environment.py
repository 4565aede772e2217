"""The installed software: compatibility of torch and torchaudio, a record for the run folder, memory settings."""

import ctypes
import os
import platform
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from speechmlp.errors import InstallationError

TESTED_TORCH, TESTED_TORCHAUDIO = "2.14.1", "2.11.1"
"""The versions in requirements.lock; `scripts/lock` writes both, and a test compares them."""
RECORDED_PACKAGES = ("speechmlp", "torch", "torchaudio", "numpy", "soundfile", "pydantic", "PyYAML")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def repair_command() -> str:
    """Returns the command that installs the tested versions of torch and torchaudio.

    `===` compares whole version strings: `==2.14.1` would keep an installed CPU build, 2.14.1+cpu.
    """
    python = shlex.quote(sys.executable or "python")
    installer = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    return f"{installer} torch==={TESTED_TORCH} torchaudio==={TESTED_TORCHAUDIO}"


def _cause(error: BaseException) -> str:
    """Returns the first line of the original error in a chain."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


def import_torch() -> ModuleType:
    """Returns the module torch.

    Raises:
        InstallationError: torch is missing or cannot be imported; the message has the command that repairs it.
    """
    try:
        return import_module("torch")
    except Exception as error:  # OSError (missing library), ImportError, RuntimeError, AttributeError
        problem = f"torch {_installed('torch') or 'is missing'} cannot be imported ({_cause(error)})"
        if _installed("torch") is None:
            problem = "torch is not installed"
        raise InstallationError(f"{problem}; run: {repair_command()}") from error


def import_torchaudio() -> ModuleType:
    """Returns the module torchaudio.

    torchaudio is compiled against PyTorch's libraries. Neither its metadata nor version numbers show whether it fits
    the installed PyTorch; only importing it does.

    Raises:
        InstallationError: the two cannot be imported together; the message has the reason and the repair command.
    """
    torch = import_torch()
    try:
        return import_module("torchaudio")
    except Exception as error:
        raise InstallationError(f"{_mismatch(torch, error)} ({_cause(error)}); run: {repair_command()}") from error


def _mismatch(torch: ModuleType, error: Exception) -> str:
    """Returns why torchaudio cannot be imported with the installed torch."""
    torchaudio_version = _installed("torchaudio")
    if torchaudio_version is None:
        return "torchaudio is not installed"
    pair = f"torch {torch.__version__} and torchaudio {torchaudio_version}"
    chain = []
    link: BaseException | None = error
    while link is not None:
        chain.append(str(link))
        link = link.__cause__ or link.__context__
    text = "\n".join(chain)
    if torch.version.cuda is None and re.search(r"libc10_cuda|libtorch_cuda|libcudart", text):
        return f"{pair} are incompatible: torch is a CPU build, torchaudio a CUDA build"
    if "different CUDA" in text or "libcudart" in text:
        return f"{pair} are incompatible: they were built for different versions of CUDA"
    if "undefined symbol" in text or "Symbol not found" in text:
        return f"{pair} are incompatible: torch is too old for this torchaudio"
    return f"{pair} cannot be imported together"


@cache
def _has_glibc() -> bool:
    return sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"


class _Silence:
    """glibc's variable `stderr`, which points to /dev/null while any thread wants silence.

    The descriptor 2 and Python's `sys.stderr` stay as they are, so that no other thread and no new process loses what
    it prints with them.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        self._stream = ctypes.c_void_p.in_dll(libc, "stderr")
        self._loud, self._silent = self._stream.value, libc.fopen(os.devnull.encode(), b"w")  # stays open
        self._lock, self._wanted = threading.Lock(), 0
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock, self._wanted = threading.Lock(), 0
        self._stream.value = self._loud

    def want(self, change: int) -> None:
        """Adds 1 at the beginning of silence, and -1 at its end."""
        with self._lock:
            self._wanted += change
            self._stream.value = self._silent if self._wanted and self._silent else self._loud


_silence = cache(_Silence)


@contextmanager
def silent_c_libraries() -> Iterator[None]:
    """Discards what C libraries print with `fprintf(stderr, ...)`, such as libmpg123's notes without a file name.

    Only with glibc; other C libraries are left unchanged.
    """
    if not _has_glibc():
        yield
        return
    silence = _silence()
    silence.want(1)
    try:
        yield
    finally:
        silence.want(-1)


def keep_freed_memory() -> bool:
    """Makes glibc keep the memory of freed tensors for later ones; returns whether that was possible.

    By default glibc returns large blocks to the system and requests them again, zeroed page by page, which takes a
    noticeable part of a training step on a CPU. Other C libraries are left unchanged.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # of mallopt(3)
    settings = {mmap_threshold: 32 << 20, trim_threshold: 1 << 30, top_pad: 64 << 20}  # the first is glibc's largest
    if not _has_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done: int = sum(mallopt(name, value) for name, value in settings.items())
    return done == len(settings)


def _git(*arguments: str, folder: Path) -> str | None:
    """Returns what git prints about a folder; None without git, and if it fails or takes too long."""
    # Variables such as GIT_DIR, which hooks set, would lead to another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        found = subprocess.run(command, cwd=folder, env=variables, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.decode("utf-8", "replace").strip()


def describe_checkout(source: Path = Path(__file__)) -> dict[str, str | bool | None]:
    """Returns the git commit of the checkout that this package runs from, and whether files differ from it.

    Both are None for an installed package, even if the environment lies in a repository of something else.

    Args:
        source: a module of the package.
    """
    tracked = _git("ls-files", "--error-unmatch", "--", source.name, folder=source.parent)
    commit = _git("rev-parse", "--verify", "HEAD", folder=source.parent) if tracked else None
    if not commit:
        return {"git_commit": None, "git_dirty": None}
    changed = _git("status", "--porcelain", "--untracked-files=no", folder=source.parent)
    added = _git("ls-files", "--others", "--exclude-standard", "--", ".", folder=source.parent)  # modules not in git
    return {"git_commit": commit, "git_dirty": None if changed is None or added is None else bool(changed + added)}


def describe_environment() -> dict[str, str | int | bool | list[str] | None]:
    """Returns what is needed to reproduce a run: versions, commit, machine, threads, devices and command line."""
    import torch

    return {
        **{package: _installed(package) for package in RECORDED_PACKAGES},
        **describe_checkout(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cuda_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "command": sys.argv,
    }
