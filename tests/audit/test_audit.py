"""The audit of a clean generated corpus, of a copy with planted faults, and the page in a real browser."""

import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser

from speechmlp.audit.__main__ import main
from speechmlp.audit.checks import check_manifest
from speechmlp.audit.corpus import audit_corpus, quick_check
from speechmlp.audit.findings import KINDS, Audit, format_audit
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.data.packed import open_packed
from speechmlp.labels import LETTERS
from tests.acceptance.audit import main as plant
from tests.audit.generated import write_clean_corpus
from tests.conftest import ROOT, Run

AUDIT = ["-m", "speechmlp.audit", "--manifest"]


@pytest.fixture(scope="session")
def clean_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest without faults: all letters by each of 12 speakers, in three splits."""
    return write_clean_corpus(tmp_path_factory.mktemp("clean"))


def test_every_planted_fault_is_found_and_nothing_else(clean_corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = plant(["--manifest", str(clean_corpus)]), capsys.readouterr().out
    assert status == 0, printed
    assert printed.startswith("Clean: 312 utterances, 0 kinds of errors\nPlanted: "), printed  # no finding
    planted = re.search(r"Planted: (\d+) kinds of faults, one each; found: (\d+)", printed)
    assert planted is not None
    assert int(planted[1]) == int(planted[2]) >= 20


@pytest.mark.corpus
def test_real_recordings_have_no_false_findings(real_recordings: Path, tmp_path: Path) -> None:
    """Parts of AN4's utterances labelled as letters: these checks do not depend on what is said."""
    utterances = []
    for number, path in enumerate(sorted((real_recordings / "an4" / "wav" / "an4_clstk").glob("*/an*-b.wav"))[:150]):
        samples, rate = soundfile.read(path, dtype="int16")
        start = max(0, int(np.abs(samples.astype(int)).argmax()) - 8000)
        target = tmp_path / path.name
        soundfile.write(target, samples[start : start + 12_000], rate, subtype="PCM_16")
        speaker = path.parent.name
        split = ("train", "train", "valid", "test")[sum(speaker.encode()) % 4]
        utterances.append(Utterance(target, LETTERS[number % 5], speaker, split))  # type: ignore[arg-type]
    write_manifest(tmp_path / "manifest.tsv", utterances)
    audit, _, _ = audit_corpus(str(tmp_path / "manifest.tsv"))
    kinds = {finding.kind for finding in audit.findings}
    assert not kinds & {"same_across", "near_across", "same_letters", "near_letters", "repeated", "near_repeated"}
    assert not kinds & {"clipped", "narrow", "dropout", "silent", "noisy", "low_rate", "cancelled", "unreadable"}
    assert audit.sound


def test_missing_and_unbalanced_letters_and_speakers_are_found(clean_corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(clean_corpus)
    kept = [u for u in utterances if not (u.speaker == "s03" and u.letter in "QX")]
    kept = [u for u in kept if u.speaker not in ("s07", "s08")]
    kept += [u for u in utterances if u.letter == "E" and u.split == "train"] * 6
    write_manifest(clean_corpus.parent / "odd.tsv", kept)
    audit, _, _ = audit_corpus(str(clean_corpus.parent / "odd.tsv"))
    found = {finding.kind: finding.message for finding in audit.findings}
    assert found["incomplete_speaker"].endswith("1, s03 Q X")
    assert found["few_speakers"] == "splits with fewer than 3 speakers: valid 1"
    assert found["unbalanced"].startswith("letters far more frequent than others: E 42 times")
    assert len(next(f for f in audit.findings if f.kind == "repeated").items) == 36
    write_manifest(clean_corpus.parent / "none.tsv", [Utterance(u.path, u.letter, u.speaker) for u in utterances])
    none = read_manifest(clean_corpus.parent / "none.tsv")
    assert [finding.kind for finding in check_manifest(none)] == ["no_splits"]


@pytest.fixture(scope="module")
def planted(clean_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with errors and names that could break a page; returns its manifest."""
    folder = tmp_path_factory.mktemp("planted")
    utterances = read_manifest(clean_corpus)
    evil = folder / "<b onclick=1>x.wav"
    samples, rate = soundfile.read(utterances[5].path)
    soundfile.write(evil, np.clip(5 * samples, -0.5, 0.5), rate)
    utterances[5] = Utterance(evil, utterances[5].letter, utterances[5].speaker, "train")
    copy = folder / "copy.flac"
    soundfile.write(copy, soundfile.read(utterances[40].path, dtype="int16")[0], rate)
    utterances.append(Utterance(copy, "W", "s09", "test"))
    write_manifest(folder / "manifest.tsv", utterances)
    return folder / "manifest.tsv"


def test_the_command_writes_page_and_json_and_fails_on_errors(
    planted: Path, run_python: Run, tmp_path: Path, browser: Browser
) -> None:
    result = run_python(*AUDIT, planted, "--outside", "--doubt")
    assert result.returncode == 1, result.stderr
    assert "error: the same audio in two splits: 1, " in result.stdout
    assert "error: the same audio under two letters: 1, " in result.stdout
    assert "warning: clipped recordings: 1, " in result.stdout
    audit = Audit.model_validate_json((tmp_path / "audit" / "audit.json").read_text())
    kinds = [finding.kind for finding in audit.findings]
    assert kinds == ["same_across", "same_letters", "clipped"]
    assert audit.doubts is not None
    assert all(doubt.letter != doubt.suggested for doubt in audit.doubts)

    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url.split(",")[0]))
    page.goto((tmp_path / "audit" / "index.html").as_uri())
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert page.inner_text("#verdict") == "2 kinds of errors"
    for finding in audit.findings:
        assert KINDS[finding.kind].title in page.inner_text(f"#{finding.kind}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("main b").count() == 0
    assert "<b onclick=1>x" in page.inner_text("main")
    players = page.locator("audio")
    assert players.count() == 3 + min(24, len(audit.doubts))
    first = players.first
    assert first.get_attribute("aria-label")
    length = first.evaluate("async p => { p.muted = true; await p.play(); p.pause(); return p.duration }")
    assert 0.4 < length < 1.1
    pictures = page.locator("img")
    for number in range(pictures.count()):
        assert pictures.nth(number).get_attribute("alt")
        assert pictures.nth(number).evaluate("picture => picture.naturalWidth") > 100
    levels = [int(name[1]) for name in page.locator("h1, h2, h3").evaluate_all("all => all.map(h => h.tagName)")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_checkpoint_helps_to_find_wrong_labels(planted: Path, run_python: Run, tmp_path: Path) -> None:
    train = ["-m", "speechmlp.train", "--config", ROOT / "configs" / "quickstart.yaml"]
    train += ["model.hidden=[16]", "training.epochs=1", "device=cpu", "output.name=x"]
    train += [f"corpus.manifest={planted}", "corpus.outside=true"]
    trained = run_python(*train)
    assert trained.returncode == 0, trained.stderr
    # Training reports the findings of the quick check in one line each.
    reported = [line for line in trained.stderr.splitlines() if line.startswith("audit: ")]
    assert [line.split(":")[1:3] for line in reported] == [
        [" error", " the same audio in two splits"],
        [" error", " the same audio under two letters"],
    ]
    silent = run_python(*train, "corpus.audit=false", "output.name=y")
    assert "audit: " not in silent.stderr
    audit, _, _ = audit_corpus(str(planted), checkpoint=str(tmp_path / "runs" / "x" / "best.pt"), outside=True)
    text = format_audit(audit)
    assert re.search(r"^Doubtful labels: \d+; \d+ stand out, and about \d+ \(\d+ to \d+\) would if every", text, re.M)
    # What the model was trained on, it does not judge.
    assert re.search(r"^Note: \S+best.pt was trained on \d+ of these letters or their speakers", text, re.M)


def test_a_judge_that_is_not_installed_is_reported_and_the_others_judge(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    found, _, _ = audit_corpus(str(planted), judge="whisper", outside=True)
    assert found.notes[0].startswith("judge: faster-whisper is not installed: python -m pip install ")
    assert found.notes[0].endswith("; the others judge without it")
    assert found.judgement is not None
    assert not any("Whisper" in name for name in found.judgement.judges)


def test_mistakes_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--manifest", str(tmp_path / "absent.tsv")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "no such manifest" in error


def test_the_quick_check_finds_nothing_in_a_clean_corpus(clean_corpus: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert quick_check(open_packed(CorpusConfig(manifest=str(clean_corpus), cache=cache))) == ()
    utterances = read_manifest(clean_corpus)
    soundfile.write(tmp_path / "zeros.wav", np.zeros(8000), 16_000)
    utterances[3] = Utterance(tmp_path / "zeros.wav", "D", "s00", "train")
    utterances[30] = Utterance(utterances[30].path, "E", "s09", "train")
    write_manifest(tmp_path / "m.tsv", utterances)
    how = {"cache": cache, "shared_speakers": True, "outside": True, "on_error": "skip"}
    packed = open_packed(CorpusConfig.model_validate({"manifest": str(tmp_path / "m.tsv"), **how}))
    assert [finding.kind for finding in quick_check(packed)] == ["shared_speaker"]
    assert [problem.partition(": ")[2] for problem in packed.skipped] == [
        "contains only zeros; expected a recorded letter"
    ]
