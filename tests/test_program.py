"""The program: its commands, the three ways to call them, and mistakes in their names."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from speechmlp import __version__
from speechmlp.__main__ import COMMANDS
from speechmlp.prepare import CORPORA
from tests.conftest import ROOT, Run


def test_the_commands_are_listed(run_python: Run) -> None:
    listing = run_python("-m", "speechmlp")
    assert listing.returncode == 0
    assert re.findall(r"^    ([a-z-]+)(?: |$)", listing.stdout, re.M) == list(COMMANDS)
    assert run_python("-m", "speechmlp", "--help").stdout == listing.stdout
    assert run_python("-m", "speechmlp", "--version").stdout == f"speechmlp {__version__}\n"
    corpora = run_python("-m", "speechmlp", "prepare")
    assert re.findall(r"^    ([a-z0-9]+)(?: |$)", corpora.stdout, re.M) == list(CORPORA)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_same_three_ways_and_explains_itself_at_once(
    name: str, run_python: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    usages = []
    for way in (["speechmlp", name], [f"speechmlp.{name.replace('-', '_')}"]):
        result = run_python("-X", "importtime", "-m", *way, "--help")
        assert result.returncode == 0
        assert " torch\n" not in result.stderr
        usages.append(result.stdout)
    assert usages[0] == usages[1]
    assert usages[0].startswith(f"usage: speechmlp {name} ")
    with pytest.raises(SystemExit, match="0"):  # what the console script calls
        import_module("speechmlp.__main__").main([name, "--help"])
    assert capfd.readouterr().out.split() == usages[0].split()


def test_the_console_script_is_the_same_program() -> None:
    tomllib = pytest.importorskip("tomllib")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"speechmlp": "speechmlp.__main__:main"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "unknown command 'trian'; did you mean train? expected one of: prepare, train, "),
        (["augment_sheet"], "unknown command 'augment_sheet'; did you mean augment-sheet? "),
        (["xyz"], "unknown command 'xyz'; expected one of: prepare, "),
        (["prepare", "syntetic"], "unknown corpus 'syntetic'; did you mean synthetic? expected one of: synthetic, "),
        (["prepare", "voices", "--engines", "picco"], "--engines: unknown engine 'picco'; did you mean pico? "),
        (["train", "--config", "sed"], "sed: no such config file or shipped configuration; did you mean seed? "),
        (
            ["sweep", "--config", "quikstart", "--name", "x"],
            "quikstart: no such config file or shipped configuration; ",
        ),
    ],
)
def test_unknown_names_end_in_one_line_with_the_nearest(words: list[str], line: str, run_python: Run) -> None:
    result = run_python("-m", "speechmlp", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {line}")


def test_mistakes_answer_without_torch(tmp_path: Path) -> None:
    for words in (["trian"], ["prepare", "x"], ["train", "--config", "sed"], ["sweep", "--config", "x", "--name", "y"]):
        command = [sys.executable, "-X", "importtime", "-m", "speechmlp", *words]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert " torch\n" not in result.stderr


def test_a_parser_error_names_the_command(run_python: Run) -> None:
    result = run_python("-m", "speechmlp", "compare", "--sweap")
    assert result.returncode == 2
    assert result.stderr.startswith("usage: speechmlp compare ")
