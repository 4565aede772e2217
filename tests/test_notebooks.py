"""The notebooks run, are stored without outputs, and link to pages of the documentation that link to them."""

import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from speechmlp.errors import UserError
from speechmlp.export.runtime import runtime_files
from tests.conftest import ROOT

SHOWN = {
    "adapt": "Kept\n",
    "browser": "long.wav: Q ",
    "labels": "AudioInput(sample_rate=8000, num_samples=12000)",
    "live": "at the end PHOEBE\n",
    "tutorial": "is recognised as",
}
"""Notebook -> what it prints when it works; commands of the shell fail without an exception."""
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _cells(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def _anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    code = [cell for cell in _cells(path) if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_and_pages_link_to_each_other(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in _cells(path) if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\((\S+?)\)", text)
    pages = [name for name in targets if name.startswith("../docs/")]
    assert pages
    for target in targets:
        name, _, anchor = target.partition("#")
        assert (path.parent / name).is_file(), target
        assert not anchor or anchor in _anchors(path.parent / name), target
    for name in {"../docs/index.md", *(target.partition("#")[0] for target in pages[:1])}:
        assert f"../notebooks/{path.name}" in (path.parent / name).read_text(encoding="utf-8"), name


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nbclient") is None, reason="the extra docs is not installed")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    if path.stem == "browser":
        try:
            runtime_files()
        except UserError as error:
            pytest.skip(str(error))
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not any(output.output_type == "error" for output in outputs)
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert SHOWN[path.stem] in printed
