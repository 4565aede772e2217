"""scripts/lock and scripts/test --latest and --oldest: one line and nothing resolved if git cannot list the files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("command", ["write", "latest", "oldest"])
@pytest.mark.parametrize("with_git", [True, False])
def test_outside_a_git_checkout(tmp_path: Path, command: str, with_git: bool) -> None:
    if with_git and shutil.which("git") is None:
        pytest.skip("there is no git")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "dependencies.py", tmp_path / "scripts")
    variables = dict(os.environ) | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    if not with_git:
        variables["PATH"] = str(tmp_path)
    result = subprocess.run(
        [sys.executable, "scripts/dependencies.py", command],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert ("expected a git checkout" if with_git else "git cannot be run") in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]
