import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmlp.config.loading import dump_yaml, load_config, override_config
from speechmlp.config.schema import Config, LogMelConfig, MLPConfig, RawConfig
from speechmlp.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return [problem.replace(str(path), "my.yaml") for problem in caught.value.problems]


def test_defaults_are_the_seed_values() -> None:
    config = load_config(None)
    assert config.front_end.kind == "raw"
    assert config.model == MLPConfig(hidden=(100,), activation="relu")
    assert (config.training.optimizer.kind, config.training.optimizer.lr) == ("adam", 0.01)
    assert (config.training.batch_size, config.training.epochs) == (64, 10)


def test_precedence_is_defaults_then_file_then_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "training: {epochs: 3, batch_size: 8}\n")
    config = load_config(path, ["training.batch_size=16", "model.hidden=[32, 16]", "front_end={kind: log_mel}"])
    assert (config.training.epochs, config.training.batch_size) == (3, 16)
    assert config.model == MLPConfig(hidden=(32, 16))
    assert config.front_end == LogMelConfig()
    assert config.training.seed == 0


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "training:\n  optimizer: {kind: adam, lr: 3e-4, eps: 1E-9}\n"))
    assert config.training.optimizer.lr == 3e-4
    assert load_config(None, ["training.optimizer={kind: sgd, lr: 1e-2}"]).training.optimizer.lr == 0.01


def test_dumped_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(
        None, ["front_end={kind: log_mel}", "training.optimizer={kind: adamw, eps: 1e-8}", "training.stop_at_loss=0.1"]
    )
    assert load_config(write(tmp_path, dump_yaml(config))) == config


def test_a_section_without_a_kind_gets_the_default_kind(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "training: {optimizer: {lr: 0.1}}"), ["front_end.normalizer=utterance"])
    assert (config.training.optimizer.kind, config.training.optimizer.lr) == ("adam", 0.1)
    assert config.front_end == RawConfig(normalizer="utterance")


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing\n")) == Config()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle: {}", "my.yaml: modle: unknown key; did you mean model?"),
        (
            "training: {epoch: 3}",
            "my.yaml: training.epoch: unknown key; did you mean training.epochs?",
        ),
        ("lr: 0.1", "my.yaml: lr: unknown key; did you mean training.optimizer.lr?"),
        ("model: {colour: 3}", "my.yaml: model.colour: unknown key; known keys: kind, hidden"),
        ("front_end: {kind: raw, n_mels: 40}", "my.yaml: front_end.n_mels: unknown key"),
        ("training: {epochs: ten}", "my.yaml: training.epochs: expected a valid integer, found 'ten'"),
        ("training: {epochs: 2.5}", "my.yaml: training.epochs: expected a valid integer"),
        ("training: {epochs: true}", "my.yaml: training.epochs: expected a valid integer, found True"),
        (
            "training: {optimizer: {kind: adam, lr: -1}}",
            "my.yaml: training.optimizer.lr: expected greater than 0, found -1",
        ),
        ("training: {optimizer: {kind: adam, lr: .nan}}", "my.yaml: training.optimizer.lr: expected"),
        ("training: {optimizer: {kind: adan}}", "my.yaml: training.optimizer.kind: expected one of 'adam', 'adamw'"),
        (
            "training: {optimizer: adam}",
            "my.yaml: training.optimizer: expected a mapping of keys to values, found 'adam'",
        ),
        ("training: {optimizer: {kind: [1]}}", "my.yaml: training.optimizer.kind: expected one of 'adam'"),
        ("training: 3", "my.yaml: training: expected a mapping of keys to values, found 3"),
        ("model: {hidden: [100, -5]}", "my.yaml: model.hidden.1: expected greater than 0, found -5"),
        ("model: {hidden: [100, wide]}", "my.yaml: model.hidden.1: expected a valid integer, found 'wide'"),
        (
            "model: {activation: gelo}",
            "my.yaml: model.activation: expected 'relu', 'tanh', 'sigmoid', 'gelu' or 'silu'",
        ),
        ("device: gpu", "my.yaml: device: expected auto (CUDA if available), cpu, cuda or cuda:N, found 'gpu'"),
        (
            "output: {name: ..}",
            "my.yaml: output.name: expected a name of letters, digits, '.', '_' and '-', or null ",
        ),
        ("front_end: {kind: log_mel, win_length: 800}", "expected win_length <= n_fft, found 800 > 512"),
        ("front_end: {kind: log_mel, f_min: 9000.0}", "expected f_min < f_max"),
        ("front_end: {kind: log_mel, n_fft: 32000}", "expected n_fft <= 16000"),
        ("training: {optimizer: {kind: sgd, nesterov: true}}", "expected momentum > 0 with nesterov: true"),
        (
            "training: {batch_size: 1}\nmodel: {norm: batch}",
            "training.batch_size: expected 2 or more with model.norm batch",
        ),
        ("- a\n- b", "my.yaml: expected a mapping of sections, found list"),
        ("training:\n  epochs: 3\n  epochs: 4", "my.yaml:3: duplicate key 'epochs'"),
        ("a: &x 1\nb: *x", "my.yaml:2: anchors and aliases are not supported"),
        ("a: [1, 2", "my.yaml:1: "),
        ("a: !!python/object/apply:os.system [ls]", "my.yaml:1: tags are not supported"),
        ("a: " + "[" * 5000, "my.yaml:1: nested too deeply"),
        ("a: !!bool 5", "my.yaml:1: tags are not supported"),
        (
            "training: {epochs: -0x" + "f" * 5000 + "}",
            "my.yaml: training.epochs: expected greater than 0, found ",
        ),
        ("a: 2001-99-99", "my.yaml: expected plain YAML"),
    ],
)
def test_each_mistake_in_a_file_is_reported_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert expected in found[0]


def test_all_mistakes_are_reported(tmp_path: Path) -> None:
    found = problems(tmp_path, "training: {epochs: 0, batch_size: none}\nmodel: {dropout: 1.0}")
    assert len(found) == 3


@pytest.mark.parametrize("override", ["training.epochs", "=3", ".epochs=3", "training..epochs=3"])
def test_malformed_overrides_are_reported(override: str) -> None:
    with pytest.raises(UserError, match=r"command line: expected key\.path=value"):
        load_config(None, [override])


def test_invalid_overrides_are_reported() -> None:
    with pytest.raises(UserError, match=r"command line: training\.epochs: expected greater than 0"):
        load_config(None, ["training.epochs=0"])
    with pytest.raises(UserError, match=r"command line: model\.hidden"):
        override_config(Config(), ["model.hidden=[1"])


@pytest.mark.parametrize("make", ["directory", "binary", "absent"])
def test_unreadable_files_are_reported(tmp_path: Path, make: str) -> None:
    path = tmp_path / "my.yaml"
    if make == "directory":
        path.mkdir()
    elif make == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"my\.yaml: (cannot be read|no such config file)"):
        load_config(path)


def test_a_validated_configuration_cannot_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 3  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "my.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(load_config(path), Config)
    except UserError as error:
        assert all(str(path) in problem for problem in error.problems)


def test_values_of_any_kind_are_a_configuration_or_a_user_error() -> None:
    values = ["null", "1", "-1", "1e400", "[]", "{}", "[[]]", "'x'", "true", "{kind: raw}", "{kind: [1]}", "{1: 2}"]
    keys = [
        "corpus",
        "front_end",
        "model.hidden",
        "training.optimizer",
        "training.schedule.kind",
        "device",
        "output.name",
    ]
    for key in keys:
        for value in values:
            try:
                config = load_config(None, [f"{key}={value}"])
                json.dumps(config.model_dump(mode="json"))
            except UserError as error:
                assert error.problems
