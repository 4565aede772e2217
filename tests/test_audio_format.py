"""Sampling rate and full scale are in one place; what cannot import them agrees with it."""

import re

from speechmlp.audio_format import FULL_SCALE, NUM_SAMPLES, SAMPLE_RATE
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "speechmlp"


def test_the_page_writes_samples_of_the_same_full_scale() -> None:
    script = (SOURCE / "serve" / "page" / "page.js").read_text(encoding="utf-8")
    numbers = {int(number) for number in re.findall(r"\b32\d{3}\b", script)}
    assert numbers == {int(FULL_SCALE), int(FULL_SCALE) - 1}


def test_no_other_module_has_numbers_of_its_own() -> None:
    own = re.compile(rf"\b({SAMPLE_RATE}|{SAMPLE_RATE:_}|{NUM_SAMPLES}|{FULL_SCALE:.0f}|{FULL_SCALE:_.0f})\b")
    for path in SOURCE.rglob("*.py"):
        code = re.sub(r'"""(.|\n)*?"""|#[^\n]*|"[^"\n]*"', "", path.read_text(encoding="utf-8"))
        assert path.name == "audio_format.py" or not own.search(code), path
