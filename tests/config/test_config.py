import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmlp.config.loading import dump_yaml, load_config, override_config
from speechmlp.config.schema import (
    Config,
    CosineConfig,
    LogMelConfig,
    MFCCConfig,
    MLPConfig,
    MuonConfig,
    RawConfig,
    SGDConfig,
)
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
        ("a: 2001-99-99", "my.yaml:1: a: 2001-99-99 is a date in YAML 1.1 and text in YAML 1.2"),
        ("a:\n\tb: 1", "my.yaml:2: a tab cannot indent or separate; use spaces"),
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


SURPRISES = {
    "010": "8 in YAML 1.1 and 10 in YAML 1.2",
    "08": "text in YAML 1.1 and 8 in YAML 1.2",
    "-017": "-15 in YAML 1.1 and -17 in YAML 1.2",
    "0o17": "text in YAML 1.1 and 15 in YAML 1.2",
    "0b11": "3 in YAML 1.1 and text in YAML 1.2",
    "-0x1F": "-31 in YAML 1.1 and text in YAML 1.2",
    "0x_1F": "31 in YAML 1.1 and text in YAML 1.2",
    "1_000": "1000 in YAML 1.1 and text in YAML 1.2",
    "1_0.5": "10.5 in YAML 1.1 and text in YAML 1.2",
    "1:30": "90 in YAML 1.1 and text in YAML 1.2",
    "190:20:30.5": "685230.5 in YAML 1.1 and text in YAML 1.2",
    "yes": "true in YAML 1.1 and text in YAML 1.2",
    "Off": "false in YAML 1.1 and text in YAML 1.2",
    "N": "false in YAML 1.1 and text in YAML 1.2",
    "2026-11-30": "a date in YAML 1.1 and text in YAML 1.2",
    "2026-11-30 12:00:00": "a date in YAML 1.1 and text in YAML 1.2",
    "<<": "a merge key",
    "=": "a merge key or default value",
}


@pytest.mark.parametrize("value", SURPRISES)
def test_values_that_yaml_versions_read_differently_are_refused(tmp_path: Path, value: str) -> None:
    meaning = f"{value} is {SURPRISES[value]}"
    assert problems(tmp_path, f"device: cpu\noutput: {{name: {value}}}")[0].startswith(
        f"my.yaml:2: output.name: {meaning}"
    )
    assert problems(tmp_path, f"{value}: 3")[0].startswith(f"my.yaml:1: {meaning}")
    assert problems(tmp_path, "", f"model.hidden=[{value}, 8]")[0].startswith(
        f"command line: model.hidden.0: {meaning}"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".5", 0.5),
        ("+.5", 0.5),
        ("5e-1", 0.5),
        ("5E-1", 0.5),
        (".05e1", 0.5),
        ("00.5", 0.5),
        ("0.50", 0.5),
        ("0", 0.0),
        ("1.", None),
        ("-.5", None),
        (".inf", None),
        (".NaN", None),
        ("inf", None),
        ("1e400", None),
        ("'0.5'", None),
        ("~", None),
    ],
)
def test_numbers_are_read_as_in_yaml_1_2(text: str, value: float | None) -> None:
    if value is not None:
        assert load_config(None, [f"model.dropout={text}"]).model.dropout == value
    else:
        with pytest.raises(UserError, match=r"command line: model.dropout: expected"):
            load_config(None, [f"model.dropout={text}"])


def test_text_in_quotes_is_text(tmp_path: Path) -> None:
    for name in [*(name for name in SURPRISES if name.replace("-", "").isalnum()), "1e3", "take.2", "null", "true"]:
        config = load_config(write(tmp_path, f"output: {{name: '{name}'}}"))
        assert config.output.name == name
        assert load_config(None, [f'output.name="{name}"']) == config
        assert load_config(write(tmp_path, dump_yaml(config))) == config


@pytest.mark.parametrize("value", ["take #2", "take # 2", "data/set #3/m.tsv", "a # 2/b.tsv", "#2", "~/x #y", "take #"])
def test_values_are_not_cut_at_a_number_sign(tmp_path: Path, value: str) -> None:
    found = problems(tmp_path, "", f"output.folder={value}")
    assert found[0].startswith(f"command line: output.folder: what follows '#' in '{value}' is a comment in YAML; put ")
    assert load_config(None, [f'output.folder="{value}"']).output.folder == value
    if value != "take #":
        found = problems(tmp_path, f"output:\n  folder: {value}\n  tensorboard: false")
        assert found[0].startswith(f"my.yaml:2: output.folder: '#{value.partition('#')[2]}' after '")
        assert problems(tmp_path, f"corpus: {{mix: [\n {{manifest: {value}\n}}]}}")[0].startswith(
            "my.yaml:2: corpus.mix.0.m"
        )
    assert load_config(write(tmp_path, f"output:\n  folder: '{value}' #2")).output.folder == value


def test_comments_are_comments(tmp_path: Path) -> None:
    text = """
output:
  folder: runs # each run has a folder in it
  name: # null: after the file and the time
training: #what follows is short
  epochs: 3 #5
  batch_size: 8 # 16
  optimizer:
    kind: sgd #or adam
    # lr: 1
corpus: {manifest: data/my.tsv} #1
"""
    config = load_config(write(tmp_path, text))
    assert (config.output.folder, config.output.name, config.training.epochs) == ("runs", None, 3)
    assert (config.training.optimizer.kind, config.corpus.manifest) == ("sgd", "data/my.tsv")


def changed(*overrides: str, path: str = "an4_log_mel") -> tuple[Config, list[str]]:
    notes: list[str] = []
    return load_config(path, overrides, notes.append), notes


def test_a_new_kind_takes_what_it_shares_with_the_old_one() -> None:
    config, notes = changed("training.optimizer.kind=sgd", "training.optimizer.momentum=0.9")
    assert config.training.optimizer == SGDConfig(lr=0.003, weight_decay=0.01, momentum=0.9)
    assert notes == [
        "training.optimizer.kind=sgd: dropped training.optimizer.betas, training.optimizer.eps, which sgd does not have"
    ]
    assert changed("training.optimizer.momentum=0.9", "training.optimizer.kind=sgd") == (config, notes)
    config, notes = changed("training.optimizer.kind=muon")
    assert (config.training.optimizer, notes) == (MuonConfig(lr=0.003), [])
    config, notes = changed("training.optimizer.kind=adamw")
    assert (config, notes) == (load_config("an4_log_mel"), [])
    config, notes = changed("training.schedule.kind=cosine")
    assert config.training.schedule == CosineConfig(warmup=0.3, final=4e-6)
    assert notes == ["training.schedule.kind=cosine: dropped training.schedule.initial, which cosine does not have"]
    config, notes = changed("front_end.kind=mfcc", "front_end.n_mfcc=20")
    assert (config.front_end, notes) == (MFCCConfig(n_mfcc=20, normalizer="utterance"), [])
    config, notes = changed("front_end.kind=raw", "augment=null", path="letters")
    assert (config.front_end, len(notes)) == (RawConfig(), 1)
    config, notes = changed("model.kind=mlp", path="letters")
    assert (config.model, len(notes)) == (MLPConfig(dropout=config.model.dropout, gate=True), 1)
    same = override_config(load_config("an4_log_mel"), ["model.kind=gmlp"], notes.append)
    assert same == changed("model.kind=gmlp")[0]
    assert load_config(None, ["training.optimizer.kind=sgd"]).training.optimizer == SGDConfig()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["training.optimizer.betas=[0.9, 0.9]", "training.optimizer.kind=sgd"],
            "training.optimizer.betas: unknown key; known keys: kind, lr, momentum, nesterov, weight_decay",
        ),
        (
            ["training.optimizer.kind=sgdd"],
            "training.optimizer.kind: expected one of 'adam', 'adamw', 'muon', 'sgd', fou",
        ),
        (["training.optimizer.kind=[sgd]"], "training.optimizer.kind: expected one of 'adam', 'adamw'"),
        (["training.optimizer=3", "training.optimizer.kind=7"], "training.optimizer.kind: expected one of 'adam'"),
        (["training.kind=sgd"], "training.kind: unknown key"),
        (["device.kind=sgd"], "device: expected a valid string"),
        (["corpus.mix.kind=sgd"], "corpus.mix"),
        (["kind=sgd"], "kind: unknown key"),
        (["learning_rate=0.1"], "learning_rate: unknown key; did you mean training.optimizer.lr?"),
        (["training.epochs=1e3"], "training.epochs: expected a valid integer, found 1000.0"),
    ],
)
def test_wrong_kinds_are_reported(overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("an4_log_mel", overrides)
    assert caught.value.problems[0].startswith(f"command line: {expected}")
