"""The report, made by the command and opened in a real browser."""

import itertools
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from speechmlp.audio.condition_names import SWEEPS
from speechmlp.corpora.noises import prepare_noises
from speechmlp.errors import UserError
from speechmlp.evaluation.html_page import write_page
from speechmlp.evaluation.results import Evaluation
from tests.conftest import ROOT, Run
from tests.forks import Forks

EVALUATE = ["-m", "speechmlp.evaluate"]


def test_only_pages_of_the_same_program_that_were_not_changed_are_replaced(tmp_path: Path) -> None:
    folder, others = tmp_path / "report", {"evaluation.json": "{}\n"}
    page = "<!doctype html>\n<p>ä</p>"
    assert write_page(folder, "evaluate", page, others) == folder / "index.html"
    assert write_page(str(folder), "evaluate", page + "\n", others).read_bytes().startswith(page.encode())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, check=True, capture_output=True)
    assert status.stdout == b""
    (folder / ".DS_Store").write_bytes(b"\0")  # a file manager has shown it
    write_page(folder, "evaluate", page, others)
    write_page(tmp_path / "empty", "audit", page)
    mistakes: dict[str, Callable[[Path], object]] = {
        "by another program": lambda f: write_page(f, "audit", page, others),
        "changed": lambda f: (write_page(f, "evaluate", page, others), append(f / "index.html", "x")),
        "changed inside": lambda f: (
            write_page(f, "evaluate", page, others),
            (f / "index.html").write_bytes((f / "index.html").read_bytes().replace(b"<p>", b"<p >")),
        ),
        "a website": lambda f: append(f / "index.html", "<p>mine"),
        "an empty page": lambda f: append(f / "index.html", ""),
        "notes beside": lambda f: (write_page(f, "evaluate", page, others), append(f / "notes.txt", "x")),
        "own .gitignore": lambda f: (write_page(f, "evaluate", page, others), append(f / ".gitignore", "!x")),
        "only the JSON": lambda f: append(f / "evaluation.json", "{}"),
        "a folder inside": lambda f: (write_page(f, "evaluate", page, others), append(f / "more" / "x", "")),
        "a file": lambda f: f.write_text("x"),
    }
    for number, (what, make) in enumerate(mistakes.items()):
        place = tmp_path / f"mistake{number}"
        make(place)
        before = {path: path.read_bytes() for path in (*place.rglob("*"), place) if path.is_file()}
        with pytest.raises(UserError, match=r"^[^\n]*choose another folder"):
            write_page(place, "evaluate", page, others)
        assert before == {path: path.read_bytes() for path in before}, what


def append(path: Path, text: str) -> int:
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        return file.write(text)


@pytest.fixture(scope="module")
def report(synthetic_corpus: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of a short run, compared with a shorter one; a name in the corpus is HTML."""
    folder = tmp_path_factory.mktemp("report")
    manifest = synthetic_corpus.with_name("html.tsv")
    manifest.write_text(re.sub(r"\t(\S+)\ttest", r"\t<b onclick=1>\1</b>\ttest", synthetic_corpus.read_text()))
    train: list[str | Path] = ["-m", "speechmlp.train", "--config", ROOT / "configs" / "quickstart.yaml"]
    train += [f"corpus.manifest={manifest}", "model.hidden=[32]", "device=cpu"]
    forks.run([*train, "training.epochs=4", "output.name=long"], folder).check_returncode()
    forks.run([*train, "training.epochs=1", "output.name=short"], folder).check_returncode()
    prepare_noises(folder / "noises", sources=20)
    others = ["--compare", "runs/short/best.pt", "--negatives", "noises/non_letters.tsv"]
    arguments = [*EVALUATE, "--checkpoint", "runs/long/best.pt", *others, "--report", "report", "--sweep"]
    result = forks.run(arguments, folder)
    assert result.returncode == 0, result.stderr
    assert "Report: report/index.html" in result.stdout
    assert re.search(r"^Compared with runs/short/best.pt: [+-][\d.]+ points", result.stdout, re.M)
    return folder / "report"


def test_the_page_opens_its_sounds_play_and_its_figures_are_the_jsons(report: Path, browser: Browser) -> None:
    evaluation = Evaluation.model_validate_json((report / "evaluation.json").read_text())
    page = browser.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url.split(",")[0]))
    page.goto((report / "index.html").as_uri())
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []

    def shown(fraction: float) -> str:
        return f"{100 * fraction:.2f}%"

    scores = evaluation.scores
    assert page.inner_text("#accuracy") == shown(scores.accuracy.value)
    table = page.locator("table").first.inner_text()
    for estimate in (scores.accuracy, scores.top3, scores.macro_recall, scores.e_set, scores.calibration_error):
        assert estimate is not None
        assert shown(estimate.value) in table
        assert f"{shown(estimate.low)} to {shown(estimate.high)}" in table
    assert evaluation.comparison is not None
    assert f"{100 * evaluation.comparison.difference.value:+.2f} points" in page.inner_text("main")

    assert {point.condition for point in evaluation.robustness} == {n for names in SWEEPS.values() for n in names}
    by_condition = {point.condition: point.accuracy.value for point in evaluation.robustness}
    assert by_condition["gain_0db"] == by_condition["shift_0ms"] == by_condition["speed_100"] == scores.accuracy.value
    robust = page.locator("details", has_text="with the telephone")
    robust.locator("summary").click()
    assert shown(by_condition["telephone"]) in robust.inner_text()

    assert evaluation.rejection is not None
    assert f"{shown(evaluation.rejection.letters_declined)} of these letters" in page.inner_text("main")
    rejected = page.locator("table", has_text="non-letter").inner_text()
    for kind in evaluation.rejection.kinds:
        assert re.search(rf"{kind.name}\s+{kind.count}\s+{shown(kind.declined)}", rejected)

    players = page.locator("audio")
    assert players.count() == min(12, len(evaluation.mistakes)) > 0
    for number in range(players.count()):
        player = players.nth(number)
        assert player.get_attribute("aria-label")
        length = player.evaluate(
            "async player => { player.muted = true; await player.play(); player.pause(); return player.duration }"
        )
        assert length == pytest.approx(1.0, abs=0.01)
    pictures = page.locator("img")
    assert pictures.count() > 12
    for number in range(pictures.count()):
        assert pictures.nth(number).get_attribute("alt")
        assert pictures.nth(number).evaluate("picture => picture.naturalWidth") > 100
    assert page.locator("h2", has_text="What decides").count() == 1
    main = page.inner_text("main")
    assert "the model reads the whole second" in main  # of the front end log_mel
    assert "endpoint network" not in main
    first = evaluation.mistakes[0]
    assert first.recording in page.locator(".cards li").first.inner_text()
    assert first.speaker in page.locator(".cards li").first.inner_text()
    assert f"{first.spoken} taken for {first.recognised}" in page.locator(".cards li").first.inner_text()


def test_the_page_fits_a_telephone_in_the_dark_and_opens_by_keyboard(report: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto((report / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    background = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    assert "dark" in background
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("details => details.open")
    levels = [int(name[1]) for name in page.locator("h1, h2, h3").evaluate_all("all => all.map(h => h.tagName)")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))  # for screen readers


def test_names_are_escaped(report: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto((report / "index.html").as_uri())
    assert page.title() == "Spoken letters: evaluation"
    assert page.locator("main b").count() == 0
    assert "<b onclick=1>" in page.inner_text("main")


def test_models_of_waveforms_have_a_page_too_and_only_reports_are_replaced(
    tone_corpus: Path, run_python: Run, tmp_path: Path
) -> None:
    (tmp_path / "raw.yaml").write_text(
        f"corpus: {{manifest: {json.dumps(str(tone_corpus))}}}\nmodel: {{hidden: [4]}}\n"
        "training: {epochs: 1}\ndevice: cpu\n"
    )
    assert run_python("-m", "speechmlp.train", "--config", "raw.yaml").returncode == 0
    result = run_python(*EVALUATE, "--report", "report")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert "What decides" not in page
    assert "<audio" in page
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("<title>Spoken letters: evaluation</title>")
    result = run_python(*EVALUATE, "--report", "mine")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "mine/index.html: was not written by speechmlp evaluate, or was changed since" in result.stderr
    again = run_python(*EVALUATE, "--report", "report")
    assert again.returncode == 0, again.stderr
