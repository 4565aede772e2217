"""Training letters are known again under any name, in any folder and lossless format."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmlp.config.schema import CorpusConfig
from speechmlp.data.fingerprints import SIZE, Fingerprints, fingerprint, fingerprints_of
from speechmlp.data.manifest import Utterance, write_manifest
from speechmlp.data.packed import open_packed


def test_copies_have_the_same_fingerprint_and_others_another(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    wave = (0.3 * draw.standard_normal(40_000)).clip(-0.9, 0.9)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="PCM_16")
    (tmp_path / "elsewhere").mkdir()
    soundfile.write(tmp_path / "elsewhere" / "b.flac", soundfile.read(tmp_path / "a.wav", dtype="int16")[0], 16_000)
    utterances = [
        Utterance(tmp_path / "a.wav", "A", "anna", start=0.8, end=1.3),
        Utterance(tmp_path / "elsewhere" / "b.flac", "A", "somebody", start=0.8, end=1.3),
        Utterance(tmp_path / "a.wav", "B", "anna", start=1.4, end=1.9),
    ]
    write_manifest(tmp_path / "m.tsv", utterances)
    one, copy, other = fingerprints_of(
        open_packed(CorpusConfig(manifest=str(tmp_path / "m.tsv"), cache=str(tmp_path / "cache")))
    )
    assert one == copy != other
    assert len(one) == SIZE


def test_a_set_is_stored_and_silence_is_not_in_it() -> None:
    draw = torch.Generator().manual_seed(0)
    prints = [fingerprint(torch.randint(-9, 9, (16_000,), generator=draw).short()) for _ in range(50)]
    silent = fingerprint(torch.zeros(16_000, dtype=torch.int16))
    known = Fingerprints([*prints, silent])
    assert len(known) == 50
    assert silent not in known
    edges = torch.zeros(2, 16_000, dtype=torch.int16)
    edges[0, 100], edges[1, 101] = 5, 5  # silent in the middle only
    assert len({fingerprint(edges[0]), fingerprint(edges[1]), silent}) == 3
    again = Fingerprints.of_tensor(known.to_tensor())
    assert all(one in again for one in prints)
    assert len(Fingerprints.of_tensor(Fingerprints().to_tensor())) == 0
    assert len(Fingerprints(prints[:9]) | Fingerprints(prints[5:])) == 50
    for wrong in (torch.zeros(3, 5, dtype=torch.uint8), torch.zeros(3, SIZE), torch.zeros(SIZE, dtype=torch.uint8), 3):
        with pytest.raises(ValueError, match="fingerprints"):
            Fingerprints.of_tensor(wrong)  # type: ignore[arg-type]
