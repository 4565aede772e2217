"""The installed software: whether it fits together, a record of it for the run folder, and how it keeps memory."""

import ctypes
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from speechmlp.errors import UserError

TORCH_PAIR = "torch==2.11.* torchaudio==2.11.*"
RECORDED_PACKAGES = ("speechmlp", "torch", "torchaudio", "numpy", "soundfile", "pydantic", "PyYAML")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require_torch() -> None:
    """Makes sure that torch and torchaudio import and belong together.

    torchaudio is compiled against one torch release (and one CUDA build of it); beside another it fails with an
    ImportError, OSError or RuntimeError from deep inside, so everything its import can raise is caught here.

    Raises:
        UserError: with the versions found and the pair to install.
    """
    torch_version, torchaudio_version = _installed("torch"), _installed("torchaudio")
    found = f"torch {torch_version or 'missing'} and torchaudio {torchaudio_version or 'missing'}"
    cure = f"install the matching pair: python -m pip install {TORCH_PAIR}"

    def release(text: str | None) -> list[str]:
        return (text or "").split("+")[0].split(".")[:2]

    if torch_version is None or torchaudio_version is None or release(torch_version) != release(torchaudio_version):
        raise UserError(f"{found} do not match; {cure}")
    try:
        import torch  # noqa: F401
        import torchaudio  # noqa: F401
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{found} cannot be imported together ({reason[0][:160]}); {cure}") from error


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
