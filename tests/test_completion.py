"""Completion, as a real bash asks for it."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speechmlp.__main__ import COMMANDS
from speechmlp.config.keys import config_keys
from speechmlp.config.loading import load_config, shipped_configs

BASH = shutil.which("bash")
ASK = """
eval "$("$1" -m argcomplete.scripts.register_python_argcomplete speechmlp)"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
_python_argcomplete speechmlp
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files and folders to name, and the program on the path."""
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "runs" / "one").mkdir(parents=True)
    program = tmp_path / "bin" / "speechmlp"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -X importtime -m speechmlp "$@" 2>"{tmp_path}/imports"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def complete(folder: Path, line: str) -> set[str]:
    """Returns what bash offers after a line, with the part of the word that it would replace."""
    assert BASH is not None
    paths = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    variables = dict(os.environ) | {"PATH": paths}
    command = [BASH, "--norc", "-c", ASK, "bash", sys.executable, line]
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return {word.strip() for word in result.stdout.splitlines()}


@pytest.mark.skipif(BASH is None or os.name == "nt", reason="needs bash")
def test_bash_is_told_what_can_come_next(folder: Path) -> None:
    assert set(COMMANDS) <= complete(folder, "speechmlp ")
    assert complete(folder, "speechmlp tr") == {"train"}
    assert " torch\n" not in (folder / "imports").read_text()  # it answers at once
    assert complete(folder, "speechmlp train --con") == {"--config", "--continue"}
    assert complete(folder, "speechmlp train --config ") >= {*shipped_configs(), "mine.yaml"}
    assert "notes.txt" not in complete(folder, "speechmlp train --config ")
    assert complete(folder, "speechmlp train --config seed model.hid") == {"model.hidden="}
    assert complete(folder, "speechmlp train --config seed model.activation=t") == {"tanh"}
    assert complete(folder, "speechmlp train --config seed training.deter") == {"training.deterministic="}
    assert complete(folder, "speechmlp sweep --config seed --name x --set training.optimizer.k") == {
        "training.optimizer.kind="
    }
    assert complete(folder, "speechmlp evaluate --split ") == {"train", "valid", "test"}
    assert "babble_10db" in complete(folder, "speechmlp evaluate --condition b")
    assert complete(folder, "speechmlp evaluate --manifest no") == {"notes.txt"}
    assert complete(folder, "speechmlp train --resume ru") == {"runs/"}
    assert complete(folder, "speechmlp prepare is") == {"isolet"}
    assert complete(folder, "speechmlp prepare an4 --so") == {"--source"}
    assert complete(folder, "speechmlp prepare synthetic --speakers ") == {""}


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value


def test_the_keys_are_those_of_the_schema() -> None:
    keys = config_keys()
    for name in shipped_configs():
        for key, value in leaves(load_config(name).model_dump(mode="json")):
            assert key in keys
            assert not keys[key] or str(value).lower() in keys[key], key
    assert keys["training.keep"] == ["best", "last"]
    assert keys["training.deterministic"] == ["true", "false"]
