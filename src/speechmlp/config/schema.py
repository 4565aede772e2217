"""The schema of the configuration: its sections, their values and defaults."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Blocks = Annotated[int, Field(gt=0, le=256)]


class Section(BaseModel):
    """A strict part of the configuration: no unknown keys, no coercion, no NaN, no change after validation."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class MixConfig(Section):
    """A further corpus to learn from."""

    manifest: str
    weight: Positive = Field(1.0, description="utterances drawn for each one of the main corpus")


class CorpusConfig(Section):
    """Which recordings to learn from, and how they are read."""

    manifest: str = Field("data/synthetic/manifest.tsv", description="TSV, CSV or JSONL list of utterances")
    cache: str = Field("data/cache", description="folder for decoded corpora; safe to delete")
    margin: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="seconds kept on each side of a manifest's start and end"
    )
    on_error: Literal["fail", "skip"] = Field("fail", description="what to do about recordings that cannot be read")
    skip_limit: Fraction = Field(0.1, description="largest share of the recordings that on_error: skip leaves out")
    outside: bool = Field(False, description="whether recordings may lie outside the manifest's folder")
    shared_speakers: bool = Field(False, description="whether a speaker may be in several splits")
    audit: bool = Field(True, description="tell before training what a quick check of the corpus finds")
    learn: Literal["train", "train+valid"] = Field(
        "train", description="which splits are learnt; with valid, once every choice is made, the last epoch is kept"
    )
    mix: Annotated[tuple[MixConfig, ...], Field(strict=False)] = Field(
        (), description="corpora whose training splits are learnt too; validation and test stay the manifest's"
    )
    negatives: Annotated[tuple[MixConfig, ...], Field(strict=False)] = Field(
        (), description="recordings that hold no letter, to learn to be unsure about"
    )


Normalization = Annotated[
    Literal["none", "utterance", "corpus"],
    Field(description="zero mean and unit variance over each utterance, or per channel over the training corpus"),
]


class RawConfig(Section):
    """The 16000 samples themselves."""

    kind: Literal["raw"] = "raw"
    normalizer: Normalization = "none"


class MelConfig(Section):
    """What every front end of mel bands has."""

    n_fft: PositiveInt = Field(512, description="samples of the Fourier transform")
    win_length: PositiveInt = Field(400, description="samples of the Hann window")
    hop_length: PositiveInt = Field(160, description="samples between frames")
    n_mels: PositiveInt = Field(40, description="mel bands")
    f_min: Annotated[float, Field(ge=0)] = Field(20.0, description="lower edge of the lowest band, Hz")
    f_max: Annotated[float, Field(gt=0, le=SAMPLE_RATE // 2)] = Field(
        8000.0, description="upper edge of the highest band, Hz"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "MelConfig":
        if self.win_length > self.n_fft:
            raise ValueError(f"expected win_length <= n_fft, found {self.win_length} > {self.n_fft}")
        if self.n_fft > NUM_SAMPLES:
            raise ValueError(f"expected n_fft <= {NUM_SAMPLES}, the length of a waveform, found {self.n_fft}")
        if self.f_min >= self.f_max:
            raise ValueError(f"expected f_min < f_max, found {self.f_min} >= {self.f_max}")
        return self


class LogMelConfig(MelConfig):
    """Log energies of mel-spaced bands."""

    kind: Literal["log_mel"] = "log_mel"
    normalizer: Normalization = "utterance"


class MFCCConfig(MelConfig):
    """Mel-frequency cepstral coefficients."""

    kind: Literal["mfcc"] = "mfcc"
    normalizer: Normalization = "corpus"
    n_mfcc: PositiveInt = Field(13, description="coefficients kept")

    @model_validator(mode="after")
    def _not_more_than_bands(self) -> "MFCCConfig":
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"expected n_mfcc <= n_mels, found {self.n_mfcc} > {self.n_mels}")
        return self


class AlignedConfig(MelConfig):
    """Log energies of mel bands, with the letter's frames brought to fixed places."""

    kind: Literal["aligned"] = "aligned"
    normalizer: ClassVar[Literal["none"]] = "none"  # no setting: the front end normalises each letter itself
    f_min: Annotated[float, Field(ge=0)] = Field(80.0, description="lower edge of the lowest band, Hz")
    f_max: Annotated[float, Field(gt=0, le=SAMPLE_RATE // 2)] = Field(
        7600.0, description="upper edge of the highest band, Hz"
    )
    emphasis: Annotated[float, Field(ge=0, le=60)] = Field(
        0.0, description="how much louder the highest band is made beside the lowest, dB"
    )
    dynamic_range: Positive = Field(50.0, description="dB below the loudest cell that count as silence")
    endpoints: Literal["energy", "learnt", "both"] = Field(
        "both", description="how the letter's ends are found; both: two readings, log-probabilities averaged"
    )
    endpoint_width: PositiveInt = Field(32, description="channels of the network of learnt endpoints")
    endpoint_blocks: Blocks = Field(2, description="its mixer blocks")
    warped: PositiveInt = Field(24, description="tokens over the whole letter")
    onset: Annotated[int, Field(ge=0)] = Field(
        20, description="tokens at frame distance from 2 frames before the start"
    )
    offset: Annotated[int, Field(ge=0)] = Field(8, description="tokens at frame distance to 2 frames after the end")

    @model_validator(mode="after")
    def _four_bands(self) -> "AlignedConfig":
        if self.n_mels % 4:
            raise ValueError(f"expected n_mels to be a multiple of 4, found {self.n_mels}")
        return self


GATE: bool = Field(False, description="scale all logits by a learnt share, so as to be unsure where there is no letter")


class MLPConfig(Section):
    """Dense layers from features to 26 logits."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = Field((100,), description="widths, first to last")
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "silu"] = "relu"
    norm: Literal["none", "batch", "layer"] = Field("none", description="normalisation before each activation")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="after each activation")
    gate: bool = GATE


class TokenModelConfig(Section):
    """What models have whose weights are shared over frames."""

    width: PositiveInt = Field(96, description="channels of a frame")
    blocks: Blocks = 4
    channel_hidden: PositiveInt = Field(192, description="hidden width across channels")
    pool: PositiveInt = Field(4, description="learnt weighted means over frames that the output layer sees")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    gate: bool = GATE


class MixerConfig(TokenModelConfig):
    """MLP-Mixer: dense layers across frames and across channels in turn."""

    kind: Literal["mixer"] = "mixer"
    token_hidden: PositiveInt = Field(64, description="hidden width across frames")


class GatedMLPConfig(TokenModelConfig):
    """gMLP: dense layers across channels, gated by a dense layer across frames."""

    kind: Literal["gmlp"] = "gmlp"


Share = Annotated[float, Field(ge=0, le=1, description="share of utterances")]
Range = Annotated[tuple[float, float], Field(strict=False)]


class AugmentConfig(Section):
    """What is done to training utterances; 0 switches off. From `vocal_tract` on, front ends of mel bands only."""

    speed: Annotated[float, Field(ge=0, le=0.7)] = Field(
        0.0, description="largest |ln| of the change of speed and pitch"
    )
    shift: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="share of the free room that is moved into")
    edge: Share = 0.0
    clip: Share = 0.0
    gain: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="largest change of level, dB")
    companding: Share = 0.0
    vocal_tract: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="largest |ln| of the change of formants"
    )
    reverb: Share = 0.0
    noise: Share = 0.0
    snr: Range = Field((0.0, 45.0), description="of the noise, dB")
    babble: Share = 0.0
    babble_snr: Range = Field((3.0, 25.0), description="of the babble, dB")
    floor: Share = 0.0
    tilt: Annotated[float, Field(ge=0, le=40)] = Field(
        0.0, description="largest slope of the channel over the band, dB"
    )
    equalizer: Annotated[float, Field(ge=0, le=40)] = Field(0.0, description="height of the channel's waves, dB")
    telephone: Share = 0.0
    jitter: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="aligned: of the endpoints, by length")
    time_warp: Annotated[float, Field(ge=0, le=0.9)] = Field(0.0, description="aligned: bend of the time axis")
    mask_bands: Annotated[int, Field(ge=0)] = Field(0, description="widest stripe of bands that is masked")
    mask_frames: Annotated[int, Field(ge=0)] = Field(0, description="widest stripe of frames that is masked")

    @model_validator(mode="after")
    def _ranges(self) -> "AugmentConfig":
        for name in ("snr", "babble_snr"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"expected {name}: [lowest, highest], found [{low}, {high}]")
        return self

    def needs_mel(self) -> list[str]:
        """Returns the names of settings that are on and act on mel bands."""
        acting = ("vocal_tract", "reverb", "noise", "babble", "floor", "tilt", "equalizer", "telephone")
        return [name for name in (*acting, "mask_bands", "mask_frames") if getattr(self, name)]


class AdamConfig(Section):
    """Adam (Kingma & Ba, 2015)."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 0.01
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class AdamWConfig(AdamConfig):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    kind: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class MuonConfig(AdamWConfig):
    """Muon (Jordan, 2024) for matrices, AdamW for everything else."""

    kind: Literal["muon"] = "muon"  # type: ignore[assignment]
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.95, description="of Muon; betas are AdamW's")


class SGDConfig(Section):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGDConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError("expected momentum > 0 with nesterov: true, found 0")
        return self


class ConstantConfig(Section):
    """The same learning rate at every step."""

    kind: Literal["constant"] = "constant"


class CosineConfig(Section):
    """Linear warm-up, then half a cosine down."""

    kind: Literal["cosine"] = "cosine"
    warmup: Fraction = Field(0.05, description="share of all steps")
    final: Fraction = Field(0.0, description="last learning rate as a share of lr")


class OneCycleConfig(Section):
    """Half a cosine up to lr, half a cosine down to almost nothing (Smith & Topin, 2019)."""

    kind: Literal["one_cycle"] = "one_cycle"
    warmup: Fraction = Field(0.3, description="share of all steps")
    initial: Fraction = Field(0.04, description="first learning rate as a share of lr")
    final: Fraction = Field(4e-6, description="last learning rate as a share of lr")


class DistillConfig(Section):
    """Learning from the probabilities of trained models (Hinton et al., 2015)."""

    teachers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        ..., description="checkpoints of models with the same front end; their probabilities are averaged"
    )
    weight: Fraction = Field(0.7, description="of the teachers' probabilities; the labels have the rest")
    temperature: Positive = Field(2.0, description="divides the logits of teachers and model")


class TrainingConfig(Section):
    """How the weights are learnt, and when to stop."""

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    optimizer: Annotated[AdamConfig | AdamWConfig | MuonConfig | SGDConfig, Field(discriminator="kind")] = AdamConfig()
    schedule: Annotated[ConstantConfig | CosineConfig | OneCycleConfig, Field(discriminator="kind")] = ConstantConfig()
    balance: Fraction = Field(0.0, description="draw letters by (frequency) ^ -balance; 0 as they come, 1 evenly")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="Beta(mixup, mixup) mixes pairs of utterances")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay of the moving average of weights")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the network's products in training")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    distill: DistillConfig | None = Field(None, description="trained models to learn from, or null")
    clip_grad_norm: Positive | None = Field(None, description="largest norm of the whole gradient")
    stop_at_loss: Positive | None = Field(None, description="stop after an epoch whose mean training loss is under it")
    keep: Literal["best", "last"] = Field(
        "best", description="the epoch that best.pt holds: by validation, or the last"
    )
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a better validation loss")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    deterministic: bool = Field(True, description="the same bits from the same seed on CUDA too, at some cost in speed")
    cuda_graphs: bool = Field(True, description="on CUDA, record a step and repeat it: the same numbers in less time")


class OutputConfig(Section):
    """Where runs are written."""

    folder: str = Field("runs", description="each run gets a folder of its own in here")
    name: Annotated[str, Field(pattern=r"^[\w.-]*[\w-][\w.-]*$")] | None = Field(
        None, description="name of the run, of letters, digits, '.', '_' and '-'; null: the config file's and the time"
    )
    tensorboard: bool = Field(False, description="write event files for TensorBoard too; needs the extra tensorboard")


class Config(Section):
    """Everything that decides a run."""

    corpus: CorpusConfig = CorpusConfig()
    front_end: Annotated[RawConfig | LogMelConfig | MFCCConfig | AlignedConfig, Field(discriminator="kind")] = (
        RawConfig()
    )
    augment: AugmentConfig | None = None
    model: Annotated[MLPConfig | MixerConfig | GatedMLPConfig, Field(discriminator="kind")] = MLPConfig()
    training: TrainingConfig = TrainingConfig()
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="auto (CUDA where there is one), cpu, cuda, or cuda:N"
    )
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        wrong = self.augment.needs_mel() if self.augment else []
        if isinstance(self.front_end, RawConfig) and wrong:
            raise ValueError(f"augment.{wrong[0]}: expected 0 with front_end.kind raw, which has no mel bands")
        if isinstance(self.model, MLPConfig) and self.model.norm == "batch" and self.training.batch_size == 1:
            raise ValueError("training.batch_size: expected 2 or more with model.norm batch, found 1")
        if self.corpus.learn == "train+valid" and self.training.keep == "best":
            raise ValueError(
                "training.keep: expected last with corpus.learn train+valid, which leaves nothing to choose by"
            )
        if self.training.keep == "last" and self.training.patience is not None:
            raise ValueError("training.patience: expected null with training.keep last, found a number")
        return self
