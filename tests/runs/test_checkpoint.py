import json
import os
import pickle
import resource
import zipfile
from pathlib import Path

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.errors import UserError
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.runs.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from speechmlp.runs.history import EpochRecord
from speechmlp.training.optimizers import build_optimizer, restore_optimizer

RECORD = EpochRecord(1, 10, 0.01, 3.2, 3.1, 0.1, 0.5, True, None)


@pytest.fixture
def config() -> Config:
    return load_config(None, ["front_end={kind: log_mel, hop_length: 1600, normalizer: corpus}", "model.hidden=[8]"])


def trained(config: Config) -> tuple[SpeechClassifier, torch.optim.Optimizer]:
    model = SpeechClassifier(config)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    model(torch.randn(2, 16_000)).sum().backward()
    optimizer.step()
    model.normalizer.set_statistics(torch.randn(40), torch.rand(40))
    return model, optimizer


def test_a_saved_checkpoint_loads_equal(tmp_path: Path, config: Config) -> None:
    model, optimizer = trained(config)
    save_checkpoint(tmp_path / "a.pt", config, model, [RECORD], {"optimizer": optimizer.state_dict()})
    loaded = load_checkpoint(tmp_path / "a.pt")
    waveforms = torch.randn(3, 16_000)
    assert torch.equal(loaded.model(waveforms), model.eval()(waveforms))
    assert (loaded.config, loaded.history) == (config, [RECORD])
    assert loaded.training is not None
    assert loaded.training["optimizer"]["state"][0]["exp_avg"].shape == (8, 440)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_unreadable_checkpoints_are_reported(tmp_path: Path, config: Config) -> None:
    model, _ = trained(config)
    save_checkpoint(tmp_path / "good.pt", config, model, [])
    data = (tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"format": 1, "model": {}}, tmp_path / "other.pt")
    content = torch.load(tmp_path / "good.pt", weights_only=True)
    torch.save({**content, "format": FORMAT + 1}, tmp_path / "newer.pt")
    torch.save({**content, "config": {"model": {"hidden": [9]}, **{}}}, tmp_path / "shape.pt")
    torch.save({**content, "config": {"modle": {}}}, tmp_path / "key.pt")
    torch.save({**content, "model": None}, tmp_path / "none.pt")
    torch.save({**content, "history": [{"epoch": 1}]}, tmp_path / "history.pt")
    cases = {
        "absent.pt": "no such checkpoint",
        ".": "cannot be read; expected a checkpoint",
        "cut.pt": "cannot be read; expected a checkpoint",
        "empty.pt": "cannot be read; expected a checkpoint",
        "text.pt": "cannot be read; expected a checkpoint",
        "list.pt": "expected a checkpoint",
        "other.pt": "other.pt: expected a checkpoint",
        "newer.pt": f"has format {FORMAT + 1}, but this speechmlp reads up to {FORMAT}",
        "shape.pt": "its weights do not fit its configuration",
        "key.pt": "modle: unknown key",
        "none.pt": "its weights do not fit its configuration",
        "history.pt": "its weights do not fit its configuration",
    }
    for name, problem in cases.items():
        with pytest.raises(UserError) as caught:
            load_checkpoint(tmp_path / name)
        assert problem in str(caught.value), name
        assert len(caught.value.problems) == 1


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_runs_no_code(tmp_path: Path) -> None:
    target = tmp_path / "hacked"
    torch.save({"format": FORMAT, "config": Attack(target)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(target)))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(tmp_path / name)
    assert not target.exists()


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path: Path, config: Config) -> None:
    model, _ = trained(config)
    save_checkpoint(tmp_path / "a.pt", config, model, [RECORD])
    before = (tmp_path / "a.pt").read_bytes()
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "gone" / "a.pt", config, model, [])

    with pytest.raises(AttributeError):
        save_checkpoint(tmp_path / "a.pt", config, model, [], {"optimizer": lambda: None})  # a function
    assert (tmp_path / "a.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_an_untrusted_checkpoint_takes_no_more_memory_than_its_size(tmp_path: Path, config: Config) -> None:
    model, _ = trained(config)
    save_checkpoint(tmp_path / "good.pt", config, model, [RECORD])
    content = torch.load(tmp_path / "good.pt", weights_only=True)
    wide = {**content["config"], "model": {**content["config"]["model"], "hidden": [10**9, 10**9]}}
    deep = {**content["config"], "model": {"kind": "mixer", "blocks": 10**9}}
    samples = {**content["config"], "front_end": {"kind": "raw"}, "model": {"kind": "gmlp"}}  # 16000 x 16000 weights
    weights = {**content["model"], "network.layers.0.bias": torch.full((8,), torch.nan)}
    spread = {**content["model"], "network.layers.0.weight": torch.zeros(1).expand(10**6, 10**6)}
    laughs: list[object] = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    torch.save({**content, "config": wide}, tmp_path / "wide.pt")
    torch.save({**content, "config": deep}, tmp_path / "deep.pt")
    torch.save({**content, "config": samples}, tmp_path / "samples.pt")
    torch.save({**content, "config": {"training": laughs}}, tmp_path / "laughs.pt")
    torch.save({**content, "model": weights}, tmp_path / "nan.pt")
    torch.save({**content, "model": spread}, tmp_path / "spread.pt")
    torch.save({**content, "history": content["history"] * 2}, tmp_path / "twice.pt")
    torch.save({**content, "history": [{**content["history"][0], "lr": "x"}]}, tmp_path / "text.pt")
    torch.save({**content, "training": [1]}, tmp_path / "training.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "good.pt") as stored, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as packed:
        for part in stored.infolist():
            packed.writestr(part.filename, stored.read(part), zipfile.ZIP_DEFLATED)
    os.mkfifo(tmp_path / "pipe.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in (
        "wide",
        "deep",
        "samples",
        "laughs",
        "nan",
        "spread",
        "twice",
        "text",
        "training",
        "old",
        "bomb",
        "pipe",
    ):
        with pytest.raises(UserError, match=rf"{name}\.pt: ") as caught:
            load_checkpoint(tmp_path / f"{name}.pt")
        assert all(len(problem) < 500 for problem in caught.value.problems), name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_the_state_of_another_optimizer_is_rejected(config: Config) -> None:
    _, optimizer = trained(config)
    state = optimizer.state_dict()
    restore_optimizer(optimizer, state)
    wrongs: tuple[object, ...] = (
        {**state, "state": {0: {**state["state"][0], "exp_avg": torch.zeros(3)}}},
        {**state, "state": {0: {**state["state"][0], "exp_avg": "x"}}},
        {**state, "state": {99: state["state"][0]}},
        {**state, "param_groups": []},
        {"state": 3, "param_groups": state["param_groups"]},
        [],
    )
    for wrong in wrongs:
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError, IndexError)):
            restore_optimizer(optimizer, wrong)
    other = {**state, "param_groups": [{**group, "fused": None, "lr": "x"} for group in state["param_groups"]]}
    restore_optimizer(optimizer, other)
    assert optimizer.param_groups[0]["lr"] == config.training.optimizer.lr


def test_checkpoints_from_before_the_packages_load_and_predict_the_same() -> None:
    """The files and the numbers were written by commit e7c0d14, before the modules moved into packages."""
    folder = Path(__file__).parent / "checkpoints"
    expected = json.loads((folder / "expected.json").read_text())
    best, last = (load_checkpoint(folder / name) for name in ("best.pt", "last.pt"))
    waveforms = torch.sin(torch.arange(16_000) * torch.tensor([[0.05], [0.11], [0.2]])) * torch.hann_window(16_000)
    with torch.inference_mode():
        logits = best.model.eval()(waveforms)
    assert torch.allclose(logits, torch.tensor(expected["logits"]), atol=1e-4)
    assert (best.temperature, best.reject_below) == (expected["temperature"], expected["reject_below"])
    assert len(last.history) == expected["epochs"]
    optimizer = build_optimizer(last.config.training.optimizer, last.model.parameters())
    assert last.training is not None
    restore_optimizer(optimizer, last.training["optimizer"])
    assert all(state for state in optimizer.state.values())
