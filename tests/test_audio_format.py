"""Sampling rate and full scale are in one place; what cannot import them agrees with it."""

import re

from speechmlp.audio_format import FULL_SCALE, NUM_SAMPLES, SAMPLE_RATE
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "speechmlp"


def test_the_page_writes_samples_of_the_same_full_scale() -> None:
    script = (SOURCE / "page" / "microphone.js").read_text(encoding="utf-8")
    numbers = {int(number) for number in re.findall(r"\b32\d{3}\b", script)}
    assert numbers == {int(FULL_SCALE), int(FULL_SCALE) - 1}


def test_no_other_module_has_numbers_of_its_own() -> None:
    values = (SAMPLE_RATE, NUM_SAMPLES, FULL_SCALE, FULL_SCALE - 1)
    own = re.compile(rf"\b({'|'.join(f'{value:.0f}|{value:_.0f}' for value in values)})\b")
    folders = (SOURCE, ROOT / "scripts", ROOT / "tests" / "acceptance")
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        code = re.sub(r'"""(.|\n)*?"""|#[^\n]*|"[^"\n]*"', "", path.read_text(encoding="utf-8"))
        assert path.name == "audio_format.py" or not own.search(code), path
