import json
import platform
from pathlib import Path

import pytest

from speechmlp import environment
from speechmlp.errors import UserError
from tests.conftest import ROOT, Run


def test_the_installed_pair_is_accepted_and_described() -> None:
    environment.require_torch()
    description = environment.describe_environment()
    assert str(description["torch"]).startswith("2.11.")
    assert str(description["torchaudio"]).startswith("2.11.")
    json.dumps(description)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory in their own way")
def test_freed_memory_is_kept(run_python: Run) -> None:
    program = (
        "import resource, torch\n"
        "from speechmlp.environment import keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "for step in range(60):\n"
        "    kept = [torch.ones(500_000 * size) for size in range(1, 14)]\n"
        "    if step == 9:\n"
        "        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    del kept\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    result = run_python("-c", program)
    assert result.returncode == 0, result.stderr
    pages = 50 * sum(range(1, 14)) * 500_000 * 4 / 4096  # all that was written
    assert int(result.stdout) < 0.01 * pages


def fake_distribution(folder: Path, name: str, version: str, code: str = "") -> None:
    """A real installed package, as far as Python can tell: importable, with metadata."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [
        ("2.10.0", "", "torchaudio 2.10.0 do not match"),
        ("2.11.0", "raise OSError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13"),
        ("2.11.0", "raise RuntimeError('PyTorch has version 2.15\\nand torchaudio not')", "PyTorch has version 2.15"),
    ],
)
def test_a_pair_that_does_not_match_ends_in_one_line(
    tmp_path: Path, run_python: Run, version: str, code: str, reason: str
) -> None:
    fake_distribution(tmp_path / "site", "torchaudio", version, code)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        f"from speechmlp.train import main; sys.exit(main(['--config', {str(ROOT / 'configs' / 'seed.yaml')!r}]))"
    )
    result = run_python("-c", program)
    assert result.returncode == 2
    assert reason in result.stderr
    assert "python -m pip install torch==2.11.* torchaudio==2.11.*" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_missing_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_installed", lambda package: None)
    with pytest.raises(UserError, match="torch missing and torchaudio missing"):
        environment.require_torch()
