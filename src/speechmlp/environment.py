"""The installed software: whether it fits together, a record of it for the run folder, and how it keeps memory."""

import ctypes
import platform
import re
import shlex
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

from speechmlp.errors import InstallationError

TESTED_TORCH, TESTED_TORCHAUDIO = "2.14.1", "2.11.1"
"""The pair in requirements.lock; a test compares them, and `scripts/lock` writes both."""
RECORDED_PACKAGES = ("speechmlp", "torch", "torchaudio", "numpy", "soundfile", "pydantic", "PyYAML")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def repair_command() -> str:
    """Returns the command that installs the tested pair over any other one.

    `===` compares whole version strings: `==2.14.1` would accept a CPU build, 2.14.1+cpu, and keep it.
    """
    python = shlex.quote(sys.executable or "python")
    installer = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
    return f"{installer} torch==={TESTED_TORCH} torchaudio==={TESTED_TORCHAUDIO}"


def _cause(error: BaseException) -> str:
    """Returns the first line of the error from which the others followed."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


def import_torch() -> ModuleType:
    """Returns the module torch.

    Raises:
        InstallationError: it is missing or cannot be imported, with the command that repairs it.
    """
    try:
        return import_module("torch")
    except Exception as error:  # OSError for a library that is missing, ImportError, RuntimeError, AttributeError
        problem = f"torch {_installed('torch') or 'is missing'} cannot be imported ({_cause(error)})"
        if _installed("torch") is None:
            problem = "torch is not installed"
        raise InstallationError(f"{problem}; run: {repair_command()}") from error


def import_torchaudio() -> ModuleType:
    """Returns the module torchaudio.

    torchaudio is compiled against PyTorch's libraries. Its metadata admit releases of PyTorch that it cannot be loaded
    with, and so do version numbers, so that only the import tells whether the two fit.

    Raises:
        InstallationError: the two cannot be imported together; the message says why, and which command repairs it.
    """
    torch = import_torch()
    try:
        return import_module("torchaudio")
    except Exception as error:
        raise InstallationError(f"{_mismatch(torch, error)} ({_cause(error)}); run: {repair_command()}") from error


def _mismatch(torch: ModuleType, error: Exception) -> str:
    """Returns what is wrong with an installed pair whose second half raised an error."""
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
        return f"{pair} do not fit: torch is a CPU build, torchaudio a CUDA build"
    if "different CUDA" in text or "libcudart" in text:
        return f"{pair} do not fit: they were built for different versions of CUDA"
    if "undefined symbol" in text or "Symbol not found" in text:
        return f"{pair} do not fit: torch is too old for this torchaudio"
    return f"{pair} cannot be imported together"


def keep_freed_memory() -> bool:
    """Keeps memory that tensors give back for those that follow, and returns whether that could be arranged.

    glibc returns large blocks to the system and asks for them again, zeroed page by page: a noticeable part of a
    training step on a CPU. Elsewhere nothing is changed.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # of mallopt(3)
    settings = {mmap_threshold: 32 << 20, trim_threshold: 1 << 30, top_pad: 64 << 20}  # the first is glibc's largest
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done: int = sum(mallopt(name, value) for name, value in settings.items())
    return done == len(settings)


def describe_environment() -> dict[str, str | int | list[str] | None]:
    """Returns what one needs to know to repeat a run: versions, machine, threads, devices and command line."""
    import torch

    return {
        **{package: _installed(package) for package in RECORDED_PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cuda_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "command": sys.argv,
    }
