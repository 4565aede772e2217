"""What the documents claim is what the repository holds."""

import doctest
import json
import math
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from scripts.release.evaluate_spelling import render_table as render_spelling
from scripts.release.reproduce_results import BEGIN, END, PEERS, ROWS, SHIPPED, render_tables
from torch.utils.flop_counter import FlopCounterMode

from speechmlp import environment
from speechmlp.audio_format import NUM_SAMPLES
from speechmlp.config.loading import load_config
from speechmlp.data.dataset import Batch
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.recognition.speller import fingerprints
from speechmlp.runs.checkpoint import PACKAGED
from speechmlp.training.losses import Learner
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "experiments.md")
"""The pages of the documentation that speak of today's files; experiments.md keeps the names of its day."""


def test_the_results_tables_are_those_of_the_summary() -> None:
    summary = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))
    for document, table in render_tables(summary).items():
        found = document.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
        assert found == table, "run reproduce_results.py --table-only"
    assert set(summary) <= set(ROWS)


def test_every_row_has_its_configuration() -> None:
    assert all((ROOT / "configs" / f"{name}.yaml").exists() for name in ROWS if name not in (*PEERS, SHIPPED))


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *PAGES], ids=str
)
def test_files_that_are_named_exist(path: Path) -> None:
    if "decisions" in path.parts or path.name == "decisions.md":
        return  # which speak of files that are gone too
    for name in re.findall(r"(?<![\w/])(?:scripts|configs|docs)/[\w.]*\w(?![\w*])", path.read_text(encoding="utf-8")):
        found = (ROOT / name).exists() or (ROOT / f"{name}.py").exists()
        assert found, f"{path}: {name}"


def test_the_map_names_every_module_and_script_and_no_other() -> None:
    text = README.partition("## Where things are")[2].partition("Documentation:")[0]
    names, folders = set(re.findall(r"[\w*]+\.py", text)), set(re.findall(r"\w+(?=/)", text))
    source = ROOT / "src" / "speechmlp"
    modules = [path for path in source.rglob("*.py") if path.name[0] != "_"]
    scripts = list((ROOT / "scripts").glob("*.py"))
    for path in [*modules, *scripts]:
        package = path.relative_to(source).parts[:-1] if path in modules else ()
        assert any(fnmatch(path.name, name) for name in names) or folders & set(package), path
    for name in names:
        assert any(fnmatch(path.name, name) for path in (*modules, *scripts)), name
    inner = (path for folder in ("scripts", "src", "tests") for path in (ROOT / folder).rglob("*"))
    assert folders <= {path.name for path in (*ROOT.iterdir(), *inner) if path.is_dir()}


def test_the_table_of_packages_is_that_of_the_contract() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [row.split("|") for row in page.partition("| row |")[2].partition("\n\n")[0].splitlines()[2:]]
    described = [name for row in rows for name in re.findall(r"`(\w+)`", row[2])]
    layers = re.search(r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    assert layers is not None
    source = ROOT / "src" / "speechmlp"
    packages = [name for name in re.findall(r"\w+", layers[1]) if (source / name).is_dir()]
    assert [name for name in described if (source / name).is_dir()] == packages
    assert {f"{name}.py" for name in described} >= {"files.py", "environment.py", "labels.py", "errors.py"}


def test_the_table_of_large_corpora_follows_its_formulas() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in page.splitlines()
        if re.match(r"\|.*\| data \|$", row)
    ]
    assert len(rows) == 10
    for first in (0, 5):
        said = " ".join(row[0] for row in rows[first : first + 5])
        config = load_config(re.findall(r"`(\w+)\.yaml`", said)[0])
        model = SpeechClassifier(config).train()
        parameters, batch = (
            model.num_parameters(),
            Batch(torch.randn(64, NUM_SAMPLES), torch.arange(64) % 26, torch.ones(64)),
        )
        with FlopCounterMode(display=False) as counter:
            Learner(model, config.training, None)(batch)[0].backward()
        operations = 1e6 * float(re.findall(r"F = ([\d.]+) million", said)[0])
        assert f"P = {parameters:,}" in said
        assert operations == pytest.approx(counter.get_total_flops() / 64, rel=0.01)
        for row in rows[first : first + 5]:
            processes, size, arithmetic, data, network = (int(cell.replace(",", "")) for cell in row[1:6])
            assert size == 512 * processes
            assert arithmetic == pytest.approx(1e8 * operations / processes / 20e12, rel=0.01, abs=0.6)
            assert data == 1e8 * 32_000 / -(-processes // 8) / 2e9
            exchanged = 2 * (processes - 1) / processes * 4 * parameters / 5e9 + 2 * math.log2(processes) * 20e-6
            assert network == pytest.approx(1e8 / size * exchanged, abs=0.5)


@pytest.mark.parametrize(
    "path",
    [path for path in (ROOT / "README.md", *PAGES) if ">>> " in path.read_text(encoding="utf-8")],
    ids=lambda path: path.name,
)
def test_the_examples_run(path: Path) -> None:
    found = doctest.testfile(str(path), module_relative=False)
    assert found.attempted >= 6
    assert found.failed == 0


def test_the_cpu_builds_are_those_of_the_lock() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert f"torch=={environment.TESTED_TORCH} torchaudio=={environment.TESTED_TORCHAUDIO} --index-url" in page


def test_every_extra_is_described() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    names = re.findall(r"^(\w+) = \[", extras.partition("\n[tool")[0], re.M)
    described = re.findall(r"^\| `(\w+)` \|", page.partition("## Extras")[2], re.M)
    assert set(names) <= set(described)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("myst_parser") is None, reason="the extra docs is not installed")
def test_the_documentation_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "docs", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "configuration.html").read_text(encoding="utf-8")
    assert "label_smoothing" in page
    assert "load_recognizer" in (tmp_path / "api.html").read_text(encoding="utf-8")


def test_the_page_of_spelled_words_is_that_of_its_figures() -> None:
    result = json.loads((ROOT / "docs" / "spelling.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "spelling.md").read_text(encoding="utf-8") == render_spelling(result)


def test_the_figures_are_of_the_models_in_the_package() -> None:
    card = PACKAGED.with_name("README.md").read_text(encoding="utf-8")
    assert all(fingerprint in card for fingerprint in fingerprints().values()), "run scripts/release/package_weights.py"
    spelling = json.loads((ROOT / "docs" / "spelling.json").read_text(encoding="utf-8"))
    assert spelling["models"] == fingerprints(), "run scripts/release/evaluate_spelling.py"
    assert sum((PACKAGED.with_name(name)).stat().st_size for name in fingerprints()) < 4_000_000
