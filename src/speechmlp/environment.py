"""The installed software: compatibility of torch and torchaudio, a record for the run folder, memory settings."""

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

    torchaudio is compiled against PyTorch's libraries. Neither its metadata nor version numbers tell whether it fits
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


def keep_freed_memory() -> bool:
    """Makes glibc keep the memory of freed tensors for later ones; returns whether that was possible.

    By default glibc returns large blocks to the system and requests them again, zeroed page by page, which takes a
    noticeable part of a training step on a CPU. Other C libraries are left unchanged.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # of mallopt(3)
    settings = {mmap_threshold: 32 << 20, trim_threshold: 1 << 30, top_pad: 64 << 20}  # the first is glibc's largest
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done: int = sum(mallopt(name, value) for name, value in settings.items())
    return done == len(settings)


def describe_environment() -> dict[str, str | int | list[str] | None]:
    """Returns what is needed to reproduce a run: versions, machine, threads, devices and command line."""
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
