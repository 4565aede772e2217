"""What the documents claim is what the repository holds."""

import doctest
import json
import re
from fnmatch import fnmatch

from scripts.evaluate_spelling import render_table as render_spelling
from scripts.reproduce_results import BEGIN, END, PEER, ROWS, render_table

from speechmlp.recognition.recognizer import WEIGHTS
from speechmlp.recognition.speller import fingerprints
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_results_table_is_that_of_the_summary() -> None:
    summary = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))
    table = README.partition(BEGIN)[2].partition(END)[0].strip()
    assert table == render_table(summary), "run scripts/reproduce_results.py --table-only"
    assert set(summary) <= set(ROWS)


def test_every_row_has_its_configuration() -> None:
    assert all((ROOT / "configs" / f"{name}.yaml").exists() for name in ROWS if name != PEER)


def test_files_that_are_named_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "data/README.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for name in re.findall(r"(?:scripts|configs|docs)/[\w.]*\w(?![\w*])", text):
            assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), f"{document}: {name}"


def test_the_map_names_every_module_and_script_and_no_other() -> None:
    names = re.findall(r"[\w*]+\.py|\w+(?=/)", README.partition("## Where things are")[2])
    source = ROOT / "src" / "speechmlp"
    files = [*(ROOT / "scripts").glob("*.py"), *(path for path in source.rglob("*.py") if path.name[0] != "_")]
    for path in files:
        folders = [] if path.parent.name == "scripts" else path.relative_to(source).parts[:-1]
        assert any(fnmatch(path.name, name) for name in names) or set(folders) & set(names), path
    for name in names:
        assert not name.endswith(".py") or any(fnmatch(path.name, name) for path in files), name


def test_the_examples_in_the_readme_run() -> None:
    found = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert found.attempted >= 6
    assert found.failed == 0


def test_the_page_of_spelled_words_is_that_of_its_figures() -> None:
    result = json.loads((ROOT / "docs" / "spelling.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "spelling.md").read_text(encoding="utf-8") == render_spelling(result)


def test_the_figures_are_of_the_models_in_the_package() -> None:
    card = WEIGHTS.with_name("README.md").read_text(encoding="utf-8")
    assert all(fingerprint in card for fingerprint in fingerprints().values()), "run scripts/package_weights.py"
    spelling = json.loads((ROOT / "docs" / "spelling.json").read_text(encoding="utf-8"))
    assert spelling["models"] == fingerprints(), "run scripts/evaluate_spelling.py"
    assert sum((WEIGHTS.with_name(name)).stat().st_size for name in fingerprints()) < 4_000_000
