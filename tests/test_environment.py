import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torchaudio

from speechmlp import environment
from tests.conftest import ROOT, Run


def test_the_installed_pair_is_accepted_and_described() -> None:
    assert environment.import_torchaudio() is torchaudio
    description = environment.describe_environment()
    assert description["torch"] == version("torch")
    assert description["torchaudio"] == version("torchaudio")
    json.dumps(description)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_is_described_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    module = package / "module.py"
    module.write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    nothing = {"git_commit": None, "git_dirty": None}
    assert environment.describe_checkout(module) == nothing  # no repository
    git(tmp_path, "init")
    assert environment.describe_checkout(module) == nothing  # a repository of something else
    git(tmp_path, "add", ".")
    assert environment.describe_checkout(module) == nothing  # no commit yet
    git(tmp_path, "commit", "-m", "first")
    clean = {"git_commit": git(tmp_path, "rev-parse", "HEAD"), "git_dirty": False}
    assert environment.describe_checkout(module) == clean
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "best.pt").touch()
    (tmp_path / "mine.yaml").touch()  # what lies next to the package changes nothing
    assert environment.describe_checkout(module) == clean
    dirty = {**clean, "git_dirty": True}
    (package / "added.py").touch()
    assert environment.describe_checkout(module) == dirty
    (package / "added.py").unlink()
    module.write_text("a = 2\n")
    assert environment.describe_checkout(module) == dirty
    git(tmp_path, "add", ".")
    assert environment.describe_checkout(module) == dirty
    git(tmp_path, "commit", "-m", "second")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    found = environment.describe_checkout(module)
    monkeypatch.delenv("GIT_DIR")
    assert found == {"git_commit": git(tmp_path, "rev-parse", "HEAD"), "git_dirty": False}
    installed = tmp_path / "venv" / "package"
    installed.mkdir(parents=True)
    (installed / "module.py").touch()
    assert environment.describe_checkout(installed / "module.py") == nothing
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.describe_checkout(module) == nothing  # no git


def test_the_recommended_pair_is_in_the_lock() -> None:
    # A newer version may be in the lock too, for newer Pythons only.
    lock = [line.partition(" ;")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()]
    assert f"torch=={environment.TESTED_TORCH}" in lock
    assert f"torchaudio=={environment.TESTED_TORCHAUDIO}" in lock
    pair = f"torch=={environment.TESTED_TORCH} torchaudio=={environment.TESTED_TORCHAUDIO} --index-url"
    assert pair in (ROOT / "docs" / "install.md").read_text()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left unchanged")
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
    pages = 50 * sum(range(1, 14)) * 500_000 * 4 / 4096  # everything that was written
    assert int(result.stdout) < 0.01 * pages


def failing_package(folder: Path, name: str, code: str) -> Path:
    """Writes a package whose import runs the code; returns the folder to put on the path."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    return folder


def run_with(site: Path, program: str, run_python: Run) -> "subprocess.CompletedProcess[str]":
    return run_python("-c", f"import sys; sys.path.insert(0, {str(site)!r}); {program}")


COMMAND = "from speechmlp.{0} import main; sys.exit(main({1!r}))"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('libfoo.so.13: cannot open shared object file')", "cannot be imported together (libfoo.so.13"),
        ("raise OSError('x.so: undefined symbol: torch_x')", "torch is too old for this torchaudio (x.so: undefined"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ImportError('y') from e", "(division by zero)"),
    ],
)
def test_an_incompatible_pair_is_reported_in_one_line(tmp_path: Path, run_python: Run, code: str, reason: str) -> None:
    site = failing_package(tmp_path / "site", "torchaudio", code)
    result = run_with(site, COMMAND.format("train", ["--config", str(ROOT / "configs" / "seed.yaml")]), run_python)
    assert result.returncode == 2
    assert reason in result.stderr
    assert f"; run: {environment.repair_command()}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_cause_is_kept(tmp_path: Path, run_python: Run) -> None:
    site = failing_package(tmp_path / "site", "torchaudio", "raise OSError('libfoo.so')")
    program = "from speechmlp.environment import import_torchaudio; import_torchaudio()"
    result = run_with(site, program, run_python)
    assert "OSError: libfoo.so" in result.stderr
    assert "The above exception was the direct cause" in result.stderr


@pytest.mark.parametrize("package", ["torch", "torchaudio"])
def test_a_missing_package_is_reported(tmp_path: Path, run_python: Run, package: str) -> None:
    program = (
        "from importlib.metadata import PackageNotFoundError; from speechmlp import environment\n"
        "found = environment.version\n"
        "def version(name):\n"
        f"    if name == {package!r}: raise PackageNotFoundError(name)\n"
        "    return found(name)\n"
        f"environment.version = version; sys.modules[{package!r}] = None\n"
        + COMMAND.format("train", ["--config", str(ROOT / "configs" / "seed.yaml")])
    )
    result = run_python("-c", "import sys\n" + program)
    assert result.returncode == 2, result.stderr
    assert f"error: {package} is not installed" in result.stderr
    assert len(result.stderr.splitlines()) == 1


BROKEN = "raise OSError('torchaudio is broken here')"


def test_torchaudio_is_not_needed_for_help_errors_and_manifests(
    tmp_path: Path, run_python: Run, tone_corpus: Path
) -> None:
    site = failing_package(tmp_path / "site", "torchaudio", BROKEN)
    seed = str(ROOT / "configs" / "seed.yaml")
    for arguments, status, said in (
        (["--help"], 0, "usage:"),
        (["--config", seed, "training.epoch=3"], 2, "training.epochs"),
    ):
        result = run_with(site, COMMAND.format("train", arguments), run_python)
        assert result.returncode == status, result.stderr
        assert said in result.stdout + result.stderr
    manifest = f"from speechmlp.data.manifest import read_manifest; print(len(read_manifest({str(tone_corpus)!r})))"
    result = run_with(site, manifest, run_python)
    assert result.stdout == "156\n", result.stderr


@pytest.mark.slow
def test_the_audit_needs_torchaudio_only_for_resampling(tmp_path: Path, run_python: Run, tone_corpus: Path) -> None:
    """Speakers s0, s2, s4 were recorded at 16 kHz, the others at 22.05 kHz."""
    site = failing_package(tmp_path / "site", "torchaudio", BROKEN)
    lines = tone_corpus.read_text().splitlines(keepends=True)
    (tone_corpus.parent / "wide.tsv").write_text(
        "".join(line for line in lines if not line.startswith(("s1", "s3", "s5")))
    )
    audit = "import sys; sys.argv = ['audit']; from speechmlp.audit.__main__ import main; sys.exit(main({0!r}))"
    wide = ["--manifest", str(tone_corpus.parent / "wide.tsv"), "--text"]
    result = run_with(site, audit.format(wide), run_python)
    assert "78 utterances" in result.stdout, result.stderr
    assert "torchaudio" not in result.stdout + result.stderr
    result = run_with(site, audit.format(["--manifest", str(tone_corpus), "--text"]), run_python)
    assert result.returncode == 2
    assert "torchaudio is broken here" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def install(python: Path, *packages: str) -> None:
    """Installs with uv, which ignores version constraints set for pip; skips the test if that fails."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *packages]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"no package index has {packages}: {result.stderr[:300]}")


def install_cpu_build(python: Path) -> None:
    """Installs a CPU build of PyTorch from pip's index or PyTorch's; skips the test if neither has one."""
    command = [str(python), "-m", "pip", "install", "--quiet", "torch==2.13.0+cpu"]
    for more in ([], ["--index-url", "https://download.pytorch.org/whl/cpu", "--retries", "1"]):
        if not subprocess.run([*command, *more], capture_output=True, check=False).returncode:
            return
    pytest.skip("no package index has torch 2.13.0+cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torch", "torchaudio", "installer", "reason"),
    [
        ("2.12.1", "2.11.1", "pip", "torch is too old for this torchaudio (/"),
        ("cpu", "2.11.1", "pip", "torch is a CPU build, torchaudio a CUDA build (lib"),
        ("2.15.0", "2.11.0", "uv", "they were built for different versions of CUDA (Detected that PyTorch"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux" or sys.version_info >= (3, 14), reason="such builds exist for Linux only")
def test_the_printed_command_repairs_a_broken_pair(
    tmp_path: Path, torch: str, torchaudio: str, installer: str, reason: str
) -> None:
    make = [sys.executable, "-m", "venv"] if installer == "pip" else [sys.executable, "-m", "uv", "venv", "--quiet"]
    subprocess.run([*make, tmp_path / "environment"], check=True)
    python = tmp_path / "environment" / "bin" / "python"
    if torch == "cpu":
        install_cpu_build(python)
    else:
        install(python, f"torch=={torch}")
    install(python, f"torchaudio=={torchaudio}")
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); from speechmlp.environment import *; "
    check = [str(python), "-c", program + "import_torchaudio(); print('fits')"]
    broken = subprocess.run(check, capture_output=True, text=True, check=False)
    message = broken.stderr.splitlines()[-1]
    assert message.startswith("speechmlp.errors.InstallationError: torch 2."), broken.stderr
    assert reason in message
    command = shlex.split(message.partition("; run: ")[2])
    if command[0] == "uv":
        command[:1] = [sys.executable, "-m", "uv"]
    repair = subprocess.run(command, capture_output=True, text=True, check=False)
    assert repair.returncode == 0, repair.stderr
    assert subprocess.run(check, capture_output=True, text=True, check=False).stdout == "fits\n"
