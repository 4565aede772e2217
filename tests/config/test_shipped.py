"""Shipped configurations, found by name."""

from pathlib import Path

import pytest

from speechmlp.config.loading import find_config, load_config, shipped_configs
from speechmlp.errors import UserError
from tests.conftest import ROOT


def test_every_configuration_is_found_by_name() -> None:
    assert shipped_configs() == {path.stem: path for path in (ROOT / "configs").glob("*.yaml")}
    for name, path in shipped_configs().items():
        assert load_config(name) == load_config(path)


def test_a_file_that_exists_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters").mkdir()  # of recordings, say
    assert find_config("letters") == shipped_configs()["letters"]
    (tmp_path / "seed").write_text("training: {epochs: 3}\n")
    assert find_config("seed") == Path("seed")
    assert load_config("seed").training.epochs == 3


def test_what_is_not_there_is_reported_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^configs/seed.yaml: no such config file; the shipped one .* its name: seed$"):
        find_config("configs/seed.yaml")
    nearest = (
        r"^leters.yaml: no such config file or shipped configuration; did you mean letters\? "
        r"expected one of: adapt, alpha"
    )
    with pytest.raises(UserError, match=nearest):
        find_config("leters.yaml")
