"""The OpenAPI document describes the interface as it is, and a fuzzer that reads it finds no fault."""

import json
import re
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from speechmlp.serve import api
from tests.conftest import ROOT
from tests.serve.conftest import Server, post, serving
from tests.serve.test_api import post_form


@pytest.fixture
def document(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}api/openapi.json") as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_the_document_has_every_address_and_no_other(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert sorted(document["paths"]) == sorted(one.path for one in api.OPERATIONS)
    text = json.dumps(document)
    references = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])
    page = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    assert all(f"`{one.path}`" in page for one in api.OPERATIONS)
    parameters = {
        one["name"] for path in document["paths"].values() for one in path.get("post", {}).get("parameters", ())
    }
    assert parameters == {
        *("name", "waveform", "judge", "words", "best", "session", "rate", "first", "known", "end"),
        *("letter", "adapted"),
    }
    assert all(re.search(rf"`{name}[`=]", page) for name in parameters)


def test_answers_are_as_documented(server: Server, letters: dict[str, Path]) -> None:
    def check(model: type[BaseModel], values: Any, absent: set[str]) -> None:
        model.model_validate(values)  # which forbids unknown keys
        assert set(model.model_fields) - set(values) == absent

    wave = letters["O"].read_bytes()
    with urllib.request.urlopen(f"{server.url}api") as answer:
        check(api.About, json.load(answer), set())
    check(api.Letter, post(f"{server.url}api/recognize", wave)[1], {"waveform"})
    check(api.Letter, post(f"{server.url}api/recognize?waveform=9", wave)[1], set())
    check(api.Spelling, post(f"{server.url}api/spell", wave)[1], {"words"})
    check(api.Spelling, post(f"{server.url}api/spell?words=CAB", wave)[1], set())
    check(api.Error, post(f"{server.url}api/spell", b"x")[1], set())
    check(api.Live, post(f"{server.url}api/live?rate=16000&end=true", bytes(640))[1], set())
    spelled = {"words": ["CAB"], "letters": [{"C": 1}]}
    kind = {"Content-Type": "application/json"}
    check(api.Offer, post(f"{server.url}api/words", json.dumps(spelled).encode(), **kind)[1], set())
    parts: list[tuple[str, str | None, bytes]] = [("a", "a.wav", wave), ("b", "b.wav", b"x")]
    check(api.Letters, post_form(server, "/api/recognize", parts)[1], set())
    check(api.Spellings, post_form(server, "/api/spell", parts)[1], set())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.parametrize("phase", ["coverage", "fuzzing"])
def test_a_fuzzer_that_knows_the_document_finds_no_fault(phase: str, spoken_checkpoint: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--checkpoint", spoken_checkpoint, "--voice", tmp_path / "voice") as server:
        _fuzz(phase, server)
    assert server.errors == "interrupted\n"


def _fuzz(phase: str, server: Server) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}api/openapi.json", "--phases", phase]
    # Bytes that fit the schema are hardly ever a recording, so they may be refused.
    command += ["--exclude-checks", "positive_data_acceptance", "--max-examples", "100", "--no-color"]
    result = subprocess.run(command, cwd=server.folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
