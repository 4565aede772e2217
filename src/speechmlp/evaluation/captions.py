"""Captions of pictures: what a front end computes of a recording, and what the model reads of that."""

from speechmlp.audio_format import DEFAULT_INPUT, AudioInput
from speechmlp.config.schema import AlignedConfig, LogMelConfig, MelConfig, MFCCConfig, RawConfig

FrontEndConfig = RawConfig | MelConfig
FINDERS: dict[str, tuple[str, ...]] = {"energy": ("by energy",), "learnt": ("by the endpoint network",)}
FINDERS["both"] = (*FINDERS["energy"], *FINDERS["learnt"])
"""Value of `endpoints` -> how the letter is found, in the order of the front end's readings."""
COLOURS = ("white", "cyan")
"""Of the lines of each reading."""


def _cells(config: MelConfig, audio: AudioInput) -> str:
    return f"{config.n_mels} mel bands every {1000 * config.hop_length / audio.sample_rate:.4g} ms"


def _whole(audio: AudioInput) -> str:
    return "the whole second" if audio.seconds == 1 else f"all {audio.seconds:g} seconds"


def spectrogram_caption(config: FrontEndConfig, audio: AudioInput = DEFAULT_INPUT) -> str:
    """Returns what the spectrogram of a recording shows, and what of it the model reads."""
    if isinstance(config, AlignedConfig):
        tokens = f"{config.warped} frames spread over the letter"
        tokens += f", {config.onset} around its start" if config.onset else ""
        tokens += f" and {config.offset} around its end" if config.offset else ""
        lines = ", ".join(f"{colour} {how}" for colour, how in zip(COLOURS, FINDERS[config.endpoints], strict=False))
        raised = f", the highest band raised by {config.emphasis:g} dB against the lowest" if config.emphasis else ""
        return (
            f"The spectrogram has this front end's {_cells(config, audio)}{raised}, down to "
            f"{config.dynamic_range:g} dB below the loudest cell. The lines are where it finds the letter ({lines}); "
            f"the model reads {tokens}."
        )
    if isinstance(config, MFCCConfig):
        return (
            f"The spectrogram has the {_cells(config, audio)} from which this front end computes {config.n_mfcc} "
            f"cepstral coefficients, which the model reads, of {_whole(audio)}."
        )
    if isinstance(config, MelConfig):
        return f"The spectrogram has this front end's {_cells(config, audio)}; the model reads {_whole(audio)}."
    return (
        f"This model reads the samples of {_whole(audio)}. The spectrogram "
        f"({_cells(LogMelConfig(), audio)}) is for people; the model does not see it."
    )


def saliency_caption(config: MelConfig, audio: AudioInput = DEFAULT_INPUT) -> str:
    """Returns what a mean picture of what decides shows."""
    time = f"time runs right, over {_whole(audio)}"
    if isinstance(config, AlignedConfig):
        how = FINDERS[config.endpoints][0]
        time = f"time runs right, over the letter as found {how}, with a tenth of its length before and after it"
    read = f" It is computed for the {_cells(config, audio)}"
    read += " that the coefficients come from." if isinstance(config, MFCCConfig) else "."
    return f"Mean over recognised letters: red speaks for the letter, blue against it; {time}, pitch up.{read}"


def sheet_caption(config: FrontEndConfig, audio: AudioInput = DEFAULT_INPUT) -> str:
    """Returns what pictures and sounds of augmented recordings show."""
    if isinstance(config, MelConfig):
        return (
            f"The pictures have this front end's {_cells(config, audio)}, in dB below the loudest cell, before all "
            "else that it computes; sounds of augmented versions are rebuilt from them. The recorded part is between "
            "the lines."
        )
    return (
        f"This model reads the samples of {_whole(audio)}, which are what you hear. The pictures "
        f"({_cells(LogMelConfig(), audio)}) are for people; the model does not see them."
    )
