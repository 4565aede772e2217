"""Short versions of the benchmarks."""

import json
import re
from pathlib import Path

import pytest
import scripts.benchmarks.benchmark
from scripts.benchmarks.benchmark import PARTS, _benchmark, _parser
from scripts.benchmarks.busy import seconds_of_epochs

from speechmlp.errors import UserError
from tests.conftest import ROOT, Run


@pytest.mark.slow
def test_training_is_measured_beside_a_limit_and_files(tone_corpus: Path, run_python: Run) -> None:
    command = [ROOT / "scripts" / "benchmarks" / "training.py", "--config", ROOT / "configs" / "seed.yaml"]
    sizes = ["--utterances", "128", "--rounds", "2"]
    result = run_python(*command, *sizes, "device=cpu", f"corpus.manifest={json.dumps(str(tone_corpus))}")
    assert result.returncode == 0, result.stderr
    head, _, *table = result.stdout.splitlines()
    assert "batch 64, 128 utterances a round, 2 rounds" in head
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:] for row in table[2:]}
    assert {"ours", "limit", "WAV by soundfile, 0 workers", "WAV by soundfile, 2 workers"} <= set(rows)
    assert all(float(rate.replace(",", "")) > 0 for rate, *_ in rows.values())
    assert rows["ours"][3] == "1.00 ×"
    fewer = run_python(
        *command, *sizes, "--without", "WAV", "device=cpu", f"corpus.manifest={json.dumps(str(tone_corpus))}"
    )
    assert "| limit |" in fewer.stdout
    assert "WAV" not in fewer.stdout


@pytest.mark.slow
def test_training_is_measured_beside_other_programs(tone_corpus: Path) -> None:
    corpus = f"corpus.manifest={json.dumps(str(tone_corpus))}"
    small = ["--config", str(ROOT / "configs" / "seed.yaml"), corpus, "training.epochs=1", "model.hidden=[4]"]
    for others in ("a busy program", "another training"):
        assert 0 < seconds_of_epochs(small, others, "1000") < 60
    with pytest.raises(UserError, match=r"^absent.yaml: no such config file"):
        seconds_of_epochs(["--config", "absent.yaml"], "another training", None)


def test_a_part_is_written_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "benchmark.md"
    monkeypatch.setattr(scripts.benchmarks.benchmark, "DOCUMENT", document)
    monkeypatch.setitem(PARTS, "start", ("Start and memory", ["scripts/dependencies.py --help"]))  # a quick one
    document.write_text(
        "# Speed\n\n## One clip\n\nkept\n\n## Start and memory\n\noutdated\n\n## Training\n\nkept too\n"
    )
    assert _benchmark(_parser().parse_args(["start"])) == 0
    text = document.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Training",
        "## Start and memory",
        "## One clip",
    ]
    assert "kept too" in text
    assert "outdated" not in text
    assert "`scripts/dependencies.py --help`\n\nusage: dependencies.py" in text


def test_the_document_holds_every_part() -> None:
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    parts = [part for name, part in PARTS.items() if name != "gpu" or f"## {part[0]}\n" in text]
    assert re.findall(r"^## (.*)$", text, re.M) == [title for title, _ in parts]  # and no other
    assert all(f"`{command}`" in text for _, commands in parts for command in commands)
