"""Save and load checkpoints: tensors and plain values that rebuild a model; loading runs no code from the file."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from speechmlp import __version__
from speechmlp.config.loading import validate_config
from speechmlp.config.schema import Config, MLPConfig
from speechmlp.data.fingerprints import Fingerprints
from speechmlp.errors import UserError, out_of_memory
from speechmlp.files import read_tensors, whole_file
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.runs.history import Calibration, EpochRecord, kept_epoch

PACKAGED = Path(__file__).parents[1] / "weights" / "letters.pt"
"""The model in the package; its card is in the same folder."""
FORMAT = 1
LARGE = 100_000_000
"""Number of weights above which the size of an untrusted model is checked before it is built: 400 MB."""
TOKENS = ("warped", "onset", "offset")


_HISTORY = TypeAdapter(list[EpochRecord])
_CALIBRATION = TypeAdapter(Calibration | None)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, with everything needed to use it or to continue training.

    Attributes:
        config: resolved configuration of the run.
        model: the classifier, on the CPU, in evaluation mode, with averaged weights if the run averages them.
        training: state needed to continue training: the optimizer's, and the weights that are trained if the run
            averages them. None in `best.pt`, which is for use only.
        history: records of the finished epochs, also of those after the epoch that is kept.
        temperature: divides the logits for probabilities; fitted on the validation set, 1 if it was not fitted.
        reject_below: recordings with a lower probability of the best letter are rejected; 0 to reject none.
        calibration: what both lead to where they were fitted; None if they were not fitted, or by an earlier version.
        trained_on: fingerprints of the letters that it was trained on; None if unknown.
    """

    config: Config
    model: SpeechClassifier
    training: dict[str, Any] | None
    history: list[EpochRecord]
    temperature: float = 1.0
    reject_below: float = 0.0
    calibration: Calibration | None = None
    trained_on: Fingerprints | None = None

    @property
    def kept(self) -> EpochRecord | None:
        """The record of the epoch whose weights these are; None without a history."""
        if self.training is not None:  # a last.pt
            return self.history[-1] if self.history else None
        return kept_epoch(self.history, self.config.training)

    @property
    def epoch(self) -> str:
        """Names the epoch whose weights these are, as in `epoch 5`; empty without one, as in the package."""
        partial = (self.training or {}).get("partial")
        if isinstance(partial, Mapping):
            return f"within epoch {partial.get('epoch')}"
        return f"epoch {self.kept.epoch}" if self.kept is not None else ""


def save_checkpoint(
    path: Path,
    config: Config,
    model: SpeechClassifier,
    history: list[EpochRecord],
    training: dict[str, Any] | None = None,
    temperature: float = 1.0,
    reject_below: float = 0.0,
    calibration: Calibration | None = None,
    trained_on: Fingerprints | None = None,
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: the file.
        config: resolved configuration.
        model: the classifier, with the weights to use.
        history: records of the finished epochs.
        training: as in `Checkpoint`.
        temperature: as in `Checkpoint`.
        reject_below: as in `Checkpoint`.
        calibration: as in `Checkpoint`.
        trained_on: as in `Checkpoint`.

    Raises:
        UserError: the file cannot be written; an earlier checkpoint of that name is unchanged.
    """
    content = {
        "format": FORMAT,
        "speechmlp": __version__,
        "config": config.model_dump(mode="json"),
        "model": model.state_dict(),
        "training": training,
        "history": [record.to_json() for record in history],
        "temperature": temperature,
        "reject_below": reject_below,
        "calibration": None if calibration is None else asdict(calibration),
        "trained_on": None if trained_on is None else trained_on.to_tensor(),
    }
    with whole_file(path) as file:
        torch.save(content, file)


def rewrite_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes all that a checkpoint holds, whole or not at all.

    Raises:
        UserError: the file cannot be written; an earlier checkpoint of that name is unchanged.
    """
    save_checkpoint(
        path,
        checkpoint.config,
        checkpoint.model,
        checkpoint.history,
        checkpoint.training,
        checkpoint.temperature,
        checkpoint.reject_below,
        checkpoint.calibration,
        checkpoint.trained_on,
    )


def _most_weights(config: Config) -> int:
    """Returns an approximate upper bound on the number of weights, without building the model."""
    front = config.front_end.model_dump()
    sizes = [len(config.labels), *(size for value in config.model.model_dump().values() for size in _integers(value))]
    counts = [config.model.blocks if not isinstance(config.model, MLPConfig) else len(config.model.hidden)]
    bands: int = front.get("n_mels", 1)
    tokens: int = max(
        1 + config.input.audio.num_samples // front.get("hop_length", 1), sum(front.get(key, 0) for key in TOKENS)
    )
    if not isinstance(config.model, MLPConfig) or "endpoint_width" in front:  # dense layers across frames
        sizes += [bands, tokens, front.get("endpoint_width", 0)]
    counts.append(front.get("endpoint_blocks", 0))
    largest = max(sizes, default=1)
    return max(bands * tokens, largest) * largest * max(1, *counts)


def _integers(value: Any) -> list[int]:
    values = value if isinstance(value, tuple) else (value,)
    return [one for one in values if type(one) is int]


def _require_fit(expected: Mapping[str, Tensor], found: Any) -> None:
    """Checks the names, shapes, types and values of weights.

    Raises:
        ValueError: they do not fit the model.
    """
    if not isinstance(found, Mapping) or found.keys() != expected.keys():
        raise ValueError("other names")
    for name, tensor in expected.items():
        weight = found[name]
        same = isinstance(weight, Tensor) and (weight.shape, weight.dtype) == (tensor.shape, tensor.dtype)
        if not same or weight.layout is not torch.strided or not weight.isfinite().all():
            raise ValueError(name)


def find_checkpoint(name: str | Path) -> Path:
    """Returns the file of a checkpoint: `packaged` is the one in the package, anything else a path."""
    return PACKAGED if str(name) == "packaged" else Path(name)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Returns the checkpoint in a file, see `find_checkpoint`.

    Only tensors and plain values are read (`weights_only`), so an untrusted file cannot run code.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint, or has a newer format.
    """
    path = find_checkpoint(path)
    expected = "expected a checkpoint of speechmlp, such as best.pt in a run folder"
    content = read_tensors(path, expected, "no such checkpoint; a run folder holds best.pt and last.pt")
    if not (
        isinstance(content, dict) and isinstance(content.get("format"), int) and isinstance(content.get("config"), dict)
    ):
        raise UserError(f"{path}: {expected}")
    if content["format"] > FORMAT:
        raise UserError(
            f"{path}: has format {content['format']}, but this speechmlp reads up to {FORMAT}; install a newer version"
        )
    config = validate_config(content.get("config"), str(path))
    try:
        if _most_weights(config) > LARGE:  # check first without allocating memory
            with torch.device("meta"):  # only for large models: its first use takes a second
                _require_fit(SpeechClassifier(config).state_dict(), content["model"])
        with torch.device("cpu"):  # whatever torch's default is
            model = SpeechClassifier(config)
        _require_fit(model.state_dict(), content["model"])
        model.load_state_dict(content["model"])
        history = _HISTORY.validate_python(content["history"])
        if [record.epoch for record in history] != list(range(1, len(history) + 1)):
            raise ValueError("epochs")
        training = content.get("training")
        if training is not None and not isinstance(training, dict):
            raise TypeError(type(training))
        temperature = float(content.get("temperature", 1.0))
        reject_below = float(content.get("reject_below", 0.0))
        if not (0 < temperature < math.inf and 0 <= reject_below <= 1):
            raise ValueError(temperature, reject_below)
        calibration = _CALIBRATION.validate_python(content.get("calibration"))
        trained_on = Fingerprints.of_tensor(content["trained_on"]) if content.get("trained_on") is not None else None
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        if out_of_memory(error):
            raise
        raise UserError(f"{path}: its weights do not fit its configuration; {expected}") from error
    return Checkpoint(config, model.eval(), training, history, temperature, reject_below, calibration, trained_on)


def starts(checkpoint: Checkpoint) -> Iterator[tuple[Path, Checkpoint | None]]:
    """Yields the models that a checkpoint started from, the latest first, with their files.

    The last one is None if its file cannot be read. It ends at a file that was written over the one it started from.
    """
    seen = set[Path]()
    while (start := checkpoint.config.training.start_from) is not None:
        path = find_checkpoint(start)
        if path.resolve() in seen:
            return
        seen.add(path.resolve())
        try:
            checkpoint = load_checkpoint(path)
        except UserError:
            yield path, None
            return
        yield path, checkpoint
