"""The schema of the configuration: sections, keys, allowed values, defaults and descriptions.

`scripts/make_schema.py` writes configs/schema.json and configs/README.md from it.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from speechmlp.audio_format import SAMPLE_RATE, AudioInput
from speechmlp.labels import LETTERS, SETS, parse_labels


def _read_labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"expected a list of texts, or {', '.join(SETS)}, found {value!r}")
    if isinstance(value, str) and value not in SETS:
        raise ValueError(f"expected a list of texts, or {', '.join(SETS)}, found {value!r}")
    return parse_labels([value] if isinstance(value, str) else value)


Labels = Annotated[
    tuple[str, ...],
    BeforeValidator(_read_labels),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(SETS)},
                {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            ]
        }
    ),
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Blocks = Annotated[int, Field(gt=0, le=256)]


class Section(BaseModel):
    """Base class of sections: no unknown keys, no coercion, no NaN, immutable after validation."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class InputConfig(Section):
    """The part of a recording that the model gets."""

    sample_rate: Annotated[int, Field(ge=4000, le=48_000)] = Field(SAMPLE_RATE, description="in Hz")
    seconds: Annotated[float, Field(ge=0.2, le=10)] = Field(
        1.0, description="length; a recording's most likely stretch of this length is used"
    )

    @property
    def audio(self) -> AudioInput:
        """The same as a value for what knows no configuration."""
        return AudioInput(self.sample_rate, round(self.sample_rate * self.seconds))


class MixConfig(Section):
    """An additional training corpus."""

    manifest: str = Field(..., description="manifest of the corpus")
    weight: Positive = Field(1.0, description="utterances drawn per epoch, per utterance of the main corpus")


class CorpusConfig(Section):
    """The recordings to train on, and how to read them."""

    manifest: str = Field("data/synthetic/manifest.tsv", description="TSV, CSV or JSON lines file of utterances")
    cache: str = Field("data/cache", description="folder for decoded recordings; safe to delete")
    margin: Fraction = Field(
        0.1, description="seconds kept before `start` and after `end`, unless the manifest has a column `margin`"
    )
    on_error: Literal["fail", "skip"] = Field("fail", description="what to do if recordings cannot be read")
    skip_limit: Fraction = Field(0.1, description="with `on_error: skip`: stop if more than this fraction is skipped")
    outside: bool = Field(False, description="allow recordings outside the manifest's folder")
    shared_speakers: bool = Field(
        False, description="allow a speaker in several splits; the accuracy is then that on known voices"
    )
    audit: bool = Field(True, description="check the corpus quickly before training and print the findings")
    learn: Literal["train", "train+valid"] = Field(
        "train", description="splits to train on; train+valid, for a final model, needs `training.keep: last`"
    )
    mix: Annotated[tuple[MixConfig, ...], Field(strict=False)] = Field(
        (), description="additional corpora; only their training split is used"
    )
    negatives: Annotated[tuple[MixConfig, ...], Field(strict=False)] = Field(
        (), description="recordings without a letter; all letters are trained to be equally probable for them"
    )

    @property
    def trained_on(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The manifests of the letters to train on, each with the splits that are used."""
        further = ((part.manifest, ("train",)) for part in self.mix)
        return (self.manifest, tuple(self.learn.split("+"))), *further


Normalization = Annotated[
    Literal["none", "utterance", "corpus"],
    Field(description="zero mean and unit variance: per utterance, or per channel over the training corpus"),
]


class RawConfig(Section):
    """The samples of the waveform."""

    kind: Literal["raw"] = "raw"
    normalizer: Normalization = "none"


class MelConfig(Section):
    """Settings of all front ends with mel bands."""

    n_fft: PositiveInt = Field(512, description="size of the Fourier transform, in samples")
    win_length: PositiveInt = Field(400, description="length of the Hann window, in samples (400: 25 ms)")
    hop_length: PositiveInt = Field(160, description="step between frames, in samples (160: 10 ms)")
    n_mels: PositiveInt = Field(40, description="number of mel bands")
    f_min: Annotated[float, Field(ge=0)] = Field(20.0, description="lower edge of the lowest band, in Hz")
    f_max: Annotated[float, Field(gt=0)] = Field(8000.0, description="upper edge of the highest band, in Hz")

    @model_validator(mode="after")
    def _consistent(self) -> "MelConfig":
        if self.win_length > self.n_fft:
            raise ValueError(f"expected win_length <= n_fft, found {self.win_length} > {self.n_fft}")
        if self.f_min >= self.f_max:
            raise ValueError(f"expected f_min < f_max, found {self.f_min} >= {self.f_max}")
        return self


class LogMelConfig(MelConfig):
    """Log energies of mel bands."""

    kind: Literal["log_mel"] = "log_mel"
    normalizer: Normalization = "utterance"


class MFCCConfig(MelConfig):
    """Mel-frequency cepstral coefficients."""

    kind: Literal["mfcc"] = "mfcc"
    normalizer: Normalization = "corpus"
    n_mfcc: PositiveInt = Field(13, description="number of coefficients")

    @model_validator(mode="after")
    def _not_more_than_bands(self) -> "MFCCConfig":
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"expected n_mfcc <= n_mels, found {self.n_mfcc} > {self.n_mels}")
        return self


class AlignedConfig(MelConfig):
    """Log energies of mel bands, resampled in time between the start and the end of the letter."""

    kind: Literal["aligned"] = "aligned"
    normalizer: ClassVar[Literal["none"]] = "none"  # no setting: the front end normalises each letter itself
    f_min: Annotated[float, Field(ge=0)] = Field(80.0, description="lower edge of the lowest band, in Hz")
    f_max: Annotated[float, Field(gt=0)] = Field(7600.0, description="upper edge of the highest band, in Hz")
    emphasis: Annotated[float, Field(ge=0, le=60)] = Field(
        0.0, description="gain of the highest band relative to the lowest, in dB"
    )
    dynamic_range: Positive = Field(50.0, description="level of the floor, in dB below the loudest cell")
    endpoints: Literal["energy", "learnt", "both"] = Field(
        "both", description="how start and end are found: by energy, by a network, or both, averaging log-probabilities"
    )
    endpoint_width: PositiveInt = Field(32, description="channels of the endpoint network")
    endpoint_blocks: Blocks = Field(2, description="mixer blocks of the endpoint network")
    warped: PositiveInt = Field(24, description="tokens spread evenly over the letter")
    onset: Annotated[int, Field(ge=0)] = Field(20, description="tokens one frame apart, from 2 frames before the start")
    offset: Annotated[int, Field(ge=0)] = Field(8, description="tokens one frame apart, up to 2 frames after the end")

    @model_validator(mode="after")
    def _four_bands(self) -> "AlignedConfig":
        if self.n_mels % 4:
            raise ValueError(f"expected n_mels to be a multiple of 4, found {self.n_mels}")
        return self


GATE: bool = Field(
    False, description="scale the logits by a sigmoid output, near 0 for non-letters; use it with `corpus.negatives`"
)


class MLPConfig(Section):
    """Dense layers from the flattened features to one logit for each label."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = Field(
        (100,), description="widths of the hidden layers, first to last"
    )
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "silu"] = Field("relu", description="activation function")
    norm: Literal["none", "batch", "layer"] = Field("none", description="normalisation before each activation")
    dropout: Probability = Field(0.0, description="dropout probability after each activation")
    gate: bool = GATE


class TokenModelConfig(Section):
    """Settings of models that share weights over frames."""

    width: PositiveInt = Field(96, description="channels per frame or token")
    blocks: Blocks = Field(4, description="number of blocks")
    channel_hidden: PositiveInt = Field(192, description="hidden width of the layers across channels")
    pool: PositiveInt = Field(4, description="number of weighted means over frames that the output layer sees")
    dropout: Probability = Field(0.2, description="dropout probability in each block")
    gate: bool = GATE


class MixerConfig(TokenModelConfig):
    """MLP-Mixer: alternating dense layers across frames and across channels."""

    kind: Literal["mixer"] = "mixer"
    token_hidden: PositiveInt = Field(64, description="hidden width of the layers across frames")


class GatedMLPConfig(TokenModelConfig):
    """gMLP: dense layers across channels, gated by a dense layer across frames."""

    kind: Literal["gmlp"] = "gmlp"


Range = Annotated[tuple[float, float], Field(strict=False)]


class AugmentConfig(Section):
    """Random changes of training utterances; 0 turns one off. `vocal_tract` and all after it need mel bands."""

    speed: Annotated[float, Field(ge=0, le=0.7)] = Field(0.0, description="speed and pitch: largest |ln(factor)|")
    shift: Fraction = Field(0.0, description="position in the second: largest shift, as a fraction of the free space")
    edge: Fraction = Field(0.0, description="fraction of utterances that may lose a little at an edge of the second")
    clip: Fraction = Field(0.0, description="fraction of utterances that are clipped")
    gain: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="largest change of level, in dB")
    companding: Fraction = Field(0.0, description="fraction of utterances quantised to 8 bits (mu-law)")
    vocal_tract: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="formants: largest |ln(factor)|")
    reverb: Fraction = Field(0.0, description="fraction of utterances with reverberation")
    noise: Fraction = Field(0.0, description="fraction of utterances with coloured noise")
    snr: Range = Field((0.0, 45.0), description="signal-to-noise ratio of `noise`, lowest and highest, in dB")
    babble: Fraction = Field(0.0, description="fraction of utterances with other voices in the background")
    babble_snr: Range = Field((3.0, 25.0), description="signal-to-noise ratio of `babble`, lowest and highest, in dB")
    floor: Fraction = Field(0.0, description="fraction of utterances with the noise floor of a recorder")
    tilt: Annotated[float, Field(ge=0, le=40)] = Field(0.0, description="largest spectral tilt over the bands, in dB")
    equalizer: Annotated[float, Field(ge=0, le=40)] = Field(0.0, description="largest spectral ripple, in dB")
    telephone: Fraction = Field(0.0, description="fraction of utterances with treble, bass or both cut off")
    jitter: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="`aligned` only: largest shift of start and end, as a fraction of the length"
    )
    time_warp: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.0, description="`aligned` only: strength of a random warp of the time axis"
    )
    mask_bands: Annotated[int, Field(ge=0)] = Field(0, description="largest number of adjacent bands that are masked")
    mask_frames: Annotated[int, Field(ge=0)] = Field(
        0, description="largest number of adjacent frames or tokens that are masked"
    )

    @model_validator(mode="after")
    def _ranges(self) -> "AugmentConfig":
        for name in ("snr", "babble_snr"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"expected {name}: [lowest, highest], found [{low}, {high}]")
        return self

    def needs_mel(self) -> list[str]:
        """Returns the names of the active settings that act on mel bands."""
        acting = ("vocal_tract", "reverb", "noise", "babble", "floor", "tilt", "equalizer", "telephone")
        return [name for name in (*acting, "mask_bands", "mask_frames") if getattr(self, name)]


LR: float = Field(0.01, description="learning rate; the schedule scales it")


class AdamConfig(Section):
    """Adam (Kingma & Ba, 2015)."""

    kind: Literal["adam"] = "adam"
    lr: Positive = LR
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = Field(
        (0.9, 0.999), description="decay of the moving averages of the gradient and of its square"
    )
    eps: Positive = Field(1e-8, description="added to the denominator")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="weight decay")


class AdamWConfig(AdamConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    kind: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="weight decay")


class MuonConfig(AdamWConfig):
    """Muon (Jordan, 2024) for matrices, AdamW for all other parameters."""

    kind: Literal["muon"] = "muon"  # type: ignore[assignment]
    momentum: Probability = Field(0.95, description="momentum of Muon; `betas` are those of AdamW")


class SGDConfig(Section):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = LR
    momentum: Probability = Field(0.0, description="momentum")
    nesterov: bool = Field(False, description="use Nesterov momentum")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="weight decay")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGDConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError("expected momentum > 0 with nesterov: true, found 0")
        return self


class ConstantConfig(Section):
    """The same learning rate at every step."""

    kind: Literal["constant"] = "constant"


class CosineConfig(Section):
    """Linear warm-up to `lr`, then half a cosine down."""

    kind: Literal["cosine"] = "cosine"
    warmup: Fraction = Field(0.05, description="fraction of the steps in which the learning rate rises")
    final: Fraction = Field(0.0, description="last learning rate, as a fraction of `lr`")


class OneCycleConfig(Section):
    """Half a cosine up to `lr`, then half a cosine down to almost zero (Smith & Topin, 2019)."""

    kind: Literal["one_cycle"] = "one_cycle"
    warmup: Fraction = Field(0.3, description="fraction of the steps in which the learning rate rises")
    initial: Fraction = Field(0.04, description="first learning rate, as a fraction of `lr`")
    final: Fraction = Field(4e-6, description="last learning rate, as a fraction of `lr`")


class DistillConfig(Section):
    """Distillation: training on the probabilities of trained models too (Hinton et al., 2015)."""

    teachers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        ...,
        description="models with the same front end, each packaged or a checkpoint; their probabilities are averaged",
    )
    weight: Fraction = Field(0.7, description="weight of the teachers' probabilities; the labels have the rest")
    temperature: Positive = Field(2.0, description="divides the logits of teachers and student")


class TrainingConfig(Section):
    """How to train, and when to stop."""

    start_from: str | None = Field(
        None,
        description="trained model to start from, with its input, front end and layers: packaged or a checkpoint; null "
        "for random weights",
    )
    epochs: PositiveInt = Field(10, description="number of epochs")
    batch_size: PositiveInt = Field(64, description="utterances per batch")
    optimizer: Annotated[AdamConfig | AdamWConfig | MuonConfig | SGDConfig, Field(discriminator="kind")] = AdamConfig()
    schedule: Annotated[ConstantConfig | CosineConfig | OneCycleConfig, Field(discriminator="kind")] = ConstantConfig()
    balance: Fraction = Field(
        0.0,
        description="sample utterances with weight (frequency of the letter)^-balance; 1: all letters equally often",
    )
    mixup: Annotated[float, Field(ge=0)] = Field(
        0.0, description="mix pairs of utterances by Beta(mixup, mixup); 0: off"
    )
    ema: Probability = Field(0.0, description="decay of a moving average of the weights, used as the model; 0: off")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the matrix products in training")
    label_smoothing: Probability = Field(0.0, description="probability mass spread evenly over all letters")
    distill: DistillConfig | None = Field(None, description="teachers to train on, or null")
    clip_grad_norm: Positive | None = Field(None, description="largest norm of the gradient, or null")
    stop_at_loss: Positive | None = Field(
        None, description="stop after an epoch with a mean training loss below this, or null"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which epoch best.pt holds: the best on the validation set, or the last"
    )
    patience: PositiveInt | None = Field(
        None, description="stop after this many epochs without a better validation result, or null"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="seed of all random numbers")
    deterministic: bool = Field(
        True, description="give the same bits for the same seed on CUDA too, at some cost in speed"
    )
    cuda_graphs: bool = Field(
        True, description="on CUDA, record a training step and replay it: the same numbers in less time"
    )


class OutputConfig(Section):
    """Where to write runs."""

    folder: str = Field("runs", description="each run gets its own folder in it")
    name: Annotated[str, Field(pattern=r"^[\w.-]*[\w-][\w.-]*$")] | None = Field(
        None, description="a name of letters, digits, '.', '_' and '-', or null for the config's name and the time"
    )
    tensorboard: bool = Field(False, description="also write TensorBoard event files; needs the extra `tensorboard`")


class Config(Section):
    """All settings of a training run."""

    labels: Labels = Field(
        LETTERS,
        description="what the model tells apart: letters (A to Z), digits, alphanumeric, or a list of texts, as in "
        "`[letters, space, stop]`; case does not distinguish labels",
        json_schema_extra={"default": "letters"},
    )
    input: InputConfig = InputConfig()
    corpus: CorpusConfig = CorpusConfig()
    front_end: Annotated[RawConfig | LogMelConfig | MFCCConfig | AlignedConfig, Field(discriminator="kind")] = (
        RawConfig()
    )
    augment: AugmentConfig | None = None
    model: Annotated[MLPConfig | MixerConfig | GatedMLPConfig, Field(discriminator="kind")] = MLPConfig()
    training: TrainingConfig = TrainingConfig()
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="auto (CUDA if available), cpu, cuda or cuda:N"
    )
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if isinstance(self.front_end, MelConfig):
            self._fits_input(self.front_end)
        wrong = self.augment.needs_mel() if self.augment else []
        if not isinstance(self.front_end, MelConfig) and wrong:
            kind = self.front_end.kind
            raise ValueError(f"augment.{wrong[0]}: expected 0 with front_end.kind {kind}, which has no mel bands")
        if isinstance(self.model, MLPConfig) and self.model.norm == "batch" and self.training.batch_size == 1:
            raise ValueError("training.batch_size: expected 2 or more with model.norm batch, found 1")
        if self.corpus.learn == "train+valid" and self.training.keep == "best":
            raise ValueError("training.keep: expected last with corpus.learn train+valid, as no validation set is left")
        if self.training.keep == "last" and self.training.patience is not None:
            raise ValueError("training.patience: expected null with training.keep last, found a number")
        return self

    def _fits_input(self, front_end: MelConfig) -> None:
        """Checks that mel bands can be computed of the input.

        Raises:
            ValueError: they cannot.
        """
        rate, samples = self.input.sample_rate, self.input.audio.num_samples
        if front_end.f_max > rate / 2:
            sizes = " ".join(
                f"front_end.{name}={round(getattr(front_end, name) * rate / SAMPLE_RATE)}"
                for name in ("n_fft", "win_length", "hop_length")
            )
            as_long = (
                f"; sizes are in samples, so that these are as long as at 16000 Hz: {sizes}"
                if rate < SAMPLE_RATE
                else ""
            )
            raise ValueError(
                f"front_end.f_max: expected {rate / 2:g} or less, half of input.sample_rate, found "
                f"{front_end.f_max:g}{as_long}"
            )
        if front_end.n_fft > samples:
            raise ValueError(
                f"front_end: expected n_fft <= {samples}, the length of the input, found {front_end.n_fft}"
            )
