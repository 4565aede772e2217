"""scripts/setup in a small project of its own: what goes wrong ends in one line, and the next try succeeds."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell script")

PROGRAMS = ("cat", "cksum", "cut", "dirname", "env", "grep", "mkdir", "rm", "sed", "sh", "tail")
NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as small as possible, with the real scripts/setup and no virtual environment."""
    root = tmp_path / "a project"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", root / "scripts")
    (root / "scripts" / "run").write_text(
        'extra=dev\n. "$(dirname "$0")/setup"\n"$PYTHON" -c "import speechmlp, iniconfig; print(speechmlp.NUMBER)"\n'
    )
    (root / "src" / "speechmlp").mkdir(parents=True)
    (root / "src" / "speechmlp" / "__init__.py").write_text("NUMBER = 26\n")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "speechmlp"\nversion = "0"\n[project.optional-dependencies]\ndev = ["iniconfig"]\n'
    )
    locked = (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    kept = [line for line in locked if line.startswith(("setuptools==", "iniconfig=="))]
    (root / "requirements.lock").write_text("".join(kept))
    return root


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Variables of a user without an active environment; the only Python on the PATH is put there by the test."""
    programs = folder / "programs"
    if not programs.exists():
        programs.mkdir()
        for name in PROGRAMS:
            (programs / name).symlink_to(str(shutil.which(name)))
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")}
    return kept | {"PATH": str(programs)} | changes


def add_python(folder: Path, pretending: str = "") -> None:
    """Puts a python3 on the PATH that first runs some code."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    script = f'#!/bin/sh\nexec "{base}" "$@"\n'
    if pretending:
        script = f'#!/bin/sh\nexec "{base}" -c "import sys; {pretending}; exec(sys.argv[1])" "$2"\n'
    target = folder / "programs" / "python3"
    target.write_text(script)
    target.chmod(0o755)


def run(project: Path, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = ["/bin/sh", "scripts/run"]
    return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, timeout=300, check=False)


def expect_error(result: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


def needs_index(result: "subprocess.CompletedProcess[str]") -> None:
    if "no package index answers" in result.stderr:
        pytest.skip("no package index answers")


def test_python_is_missing_too_old_or_without_venv(project: Path, tmp_path: Path) -> None:
    variables = environment(tmp_path)
    expect_error(run(project, variables), "Python 3.10 to 3.14", "found none")
    add_python(tmp_path, "sys.version_info = (3, 9, 18)")
    expect_error(run(project, variables), "python3 3.9 is not supported")
    add_python(tmp_path, "sys.modules['ensurepip'] = None")
    expect_error(run(project, variables), "has no module ensurepip", "python3-venv")
    assert not (project / ".venv").exists()


@pytest.mark.slow
def test_without_an_index_it_ends_in_one_line_and_then_succeeds(project: Path, tmp_path: Path) -> None:
    variables = environment(tmp_path)
    add_python(tmp_path)
    offline = {key: value for key, value in variables.items() if not key.startswith("PIP_")} | NO_INDEX
    expect_error(run(project, offline | {"PIP_CONFIG_FILE": os.devnull}), "no package index answers", "run this again")
    result = run(project, variables)
    needs_index(result)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "26"
    assert "interrupted" in result.stdout
    again = run(project, variables)
    assert again.stdout == "26\n", "installed once"
    lock = project / "requirements.lock"
    lock.write_text(lock.read_text() + "# changed\n")
    assert "Installing speechmlp[dev]" in run(project, variables).stdout


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["Making", "Installing"])
def test_killed_while_installing_the_next_try_succeeds(project: Path, tmp_path: Path, moment: str) -> None:
    variables = environment(tmp_path)
    add_python(tmp_path)
    command = ["/bin/sh", "scripts/run"]
    with subprocess.Popen(
        command, cwd=project, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith(moment):
                break
        time.sleep(0.3)
        expect_error(run(project, variables), f"is being installed by process {first.pid}", "wait")
        os.killpg(first.pid, signal.SIGKILL)
    result = run(project, variables)
    needs_index(result)
    assert result.returncode == 0, result.stderr
    assert "The installation into .venv was interrupted" in result.stdout
    assert result.stdout.splitlines()[-1] == "26"


def test_an_environment_that_was_made_by_uv_has_no_pip(project: Path, tmp_path: Path) -> None:
    made = tmp_path / "made by uv"
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", made], check=True)
    (environment_programs := tmp_path / "programs").mkdir()
    for name in PROGRAMS:
        (environment_programs / name).symlink_to(str(shutil.which(name)))
    (environment_programs / "uv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uv "$@"\n')
    (environment_programs / "uv").chmod(0o755)
    result = run(project, environment(tmp_path, VIRTUAL_ENV=str(made)))
    needs_index(result)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "26"
    assert not (made / "bin" / "pip").exists()


def test_an_active_environment_of_an_old_python_is_rejected(project: Path, tmp_path: Path) -> None:
    variables = environment(tmp_path, VIRTUAL_ENV=str(tmp_path / "old"))
    add_python(tmp_path, "sys.version_info = (3, 9, 18)")
    (tmp_path / "old" / "bin").mkdir(parents=True)
    (tmp_path / "programs" / "python3").rename(tmp_path / "old" / "bin" / "python")
    expect_error(run(project, variables), "is not supported; make it with Python 3.10 to 3.14")
