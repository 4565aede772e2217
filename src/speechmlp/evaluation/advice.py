"""What a poor accuracy means and what to try next, from the figures and the model's configuration."""

from speechmlp.config.schema import Config
from speechmlp.evaluation.results import Baseline

NEAR = 0.1
"""An accuracy less than this above that of always answering the most frequent letter is hardly better."""
GAP = 0.3
"""A training accuracy this far above the accuracy means that the model has memorised."""
FITTED = 0.5
"""With a training accuracy under this the model has not even fitted its training letters."""
FAST = 0.003
"""A learning rate above this is large for the optimizers here."""


def advise(config: Config, baseline: Baseline, accuracy: float, train: float | None, valid: float | None) -> str | None:
    """Returns what a poor accuracy means and what to try next; None if the accuracy is not poor.

    Args:
        config: of the model.
        baseline: of the letters.
        accuracy: on them, not trained on.
        train: accuracy on training letters; None if it is unknown.
        valid: accuracy on the validation set; None if it is unknown, or these letters are the validation set.
    """
    # With few of the labels, always answering one of them is no measure of a classifier of all.
    near = 2 * baseline.num_letters >= baseline.num_labels and accuracy < baseline.majority + NEAR
    always = f"hardly better than always answering {baseline.letter} ({_percent(baseline.majority)})"
    if near and train is not None and train < FITTED:
        return (
            f"The model has not fitted its training letters either ({_percent(train)} right), and is {always}. "
            f"Try {_fit(config)}."
        )
    if valid is not None and valid - accuracy >= GAP:
        means = f"is {always} here" if near else "recognises far fewer of these letters"
        return (
            f"The model {means}, although {_percent(valid)} of the validation letters are right: these recordings "
            f"differ from those (microphone, noise, way of cutting). Listen to some of them, and try {_differ(config)}."
        )
    if train is not None and train - accuracy >= GAP:
        means = f"is {always}" if near else f"recognises only {_percent(accuracy)}"
        return (
            f"The model has memorised its training letters ({_percent(train)} right) and {means} with other people. "
            f"Try {_generalise(config)}."
        )
    return f"The model is {always}. Try {_generalise(config)}." if near else None


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _fit(config: Config) -> str:
    if config.training.optimizer.lr > FAST:
        return f"a smaller learning rate (training.optimizer.lr={config.training.optimizer.lr / 10:g}) or more epochs"
    return "more epochs (training.epochs), another learning rate, or less dropout and augmentation"


def _generalise(config: Config) -> str:
    if config.front_end.kind == "raw":
        return (
            "features that stay the same when a letter moves by some milliseconds: front_end.kind=log_mel, as in the "
            "configurations quickstart and an4_log_mel"
        )
    if config.augment is None:
        return "augmentation, as in the configuration an4_only, or more speakers (corpus.mix)"
    return "more speakers (corpus.mix), more augmentation, or a smaller model"


def _differ(config: Config) -> str:
    if config.front_end.kind == "raw":
        return _generalise(config)
    if config.augment is None:
        return "augmentation, as in the configuration an4_only, or training on recordings like these (corpus.mix)"
    return "training on recordings like these (corpus.mix, training.start_from)"
