"""A second judge, which asks for another package and model: Whisper's log-probabilities of the letters.

Whisper (Radford et al., 2022) writes letters in many ways: Q as "Q", "cue" or "queue". The probability of a letter is
the sum over the first tokens of its spellings. Whisper was trained on other people and devices than the models here,
so the two are often wrong about different letters.

Dimension key: `N` recordings, `T` samples (16000).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from speechmlp.audio_format import SAMPLE_RATE
from speechmlp.config.schema import Config
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS, describe

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

MODEL = "base"
"""Name of the model at the hub."""
FILES = ("model.bin", "config.json", "tokenizer.json")
"""Of a model's folder; without a tokenizer there, faster-whisper would download one."""
WEIGHT = 1.5
"""Of Whisper's log-probabilities; the model's own are divided by its temperature. Fitted on validation speakers."""
SPELLINGS = {
    "A": "a ay eh hey",
    "B": "b be bee",
    "C": "c see sea",
    "D": "d dee",
    "E": "e",
    "F": "f eff",
    "G": "g gee",
    "H": "h age aitch",
    "I": "i eye aye",
    "J": "j jay",
    "K": "k kay okay",
    "L": "l el ell",
    "M": "m em",
    "N": "n en and",
    "O": "o oh owe",
    "P": "p pea pee",
    "Q": "q cue queue",
    "R": "r are our",
    "S": "s ess yes",
    "T": "t tea tee",
    "U": "u you",
    "V": "v vee we",
    "W": "w double",
    "X": "x ex eggs",
    "Y": "y why",
    "Z": "z zee zed",
}
"""Letter -> how Whisper writes it: itself, words that sound the same, and words it takes a lone letter for."""
BEFORE, WINDOW = SAMPLE_RATE // 2, 10 * SAMPLE_RATE
"""Samples of silence before a recording, and of all that Whisper reads. Its usual 30 s take three times as long."""
FRAME = 160
"""Samples between frames of Whisper's spectrogram."""
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
ENGLISH_PROMPT = ("<|startoftranscript|>", "<|notimestamps|>")
"""What models for English alone expect."""
FLOOR = 1e-6
"""Least probability of a letter."""


class WhisperJudge:
    """Whisper's probabilities of letters.

    Args:
        model: of faster-whisper.
    """

    def __init__(self, model: "WhisperModel") -> None:
        self._model = model
        tokenizer = model.hf_tokenizer
        prompt = PROMPT if model.model.is_multilingual else ENGLISH_PROMPT
        self._prompt = [tokenizer.token_to_id(token) for token in prompt]
        self._tokens = [self._first_tokens(SPELLINGS[letter].split()) for letter in LETTERS]

    def _first_tokens(self, words: list[str]) -> list[int]:
        encode = self._model.hf_tokenizer.encode
        cased = [form for word in words for form in (word, word.upper(), word.capitalize())]
        return sorted({encode(space + word, add_special_tokens=False).ids[0] for word in cased for space in ("", " ")})

    def added_to(self, logits: Tensor, temperature: float, waveforms: Tensor) -> Tensor:
        """Returns log-probabilities float64 [N, 26] of a model and Whisper together.

        Args:
            logits: of the model, [N, 26].
            temperature: divides them.
            waveforms: float32 [N, T] at 16 kHz.
        """
        own = (logits.cpu().double() / temperature).log_softmax(1)
        return (own + WEIGHT * self.log_probabilities(waveforms)).log_softmax(1)

    def log_probabilities(self, waveforms: Tensor) -> Tensor:
        """Returns log-probabilities float64 [N, 26] of waveforms float32 [N, T] at 16 kHz."""
        return torch.stack([self._of(waveform.cpu().numpy()) for waveform in waveforms])

    def _of(self, samples: Any) -> Tensor:
        window = np.zeros(WINDOW, np.float32)
        window[BEFORE : BEFORE + len(samples)] = samples
        spectrogram = self._model.feature_extractor(window, padding=FRAME)[:, : WINDOW // FRAME]
        answer = self._model.model.generate(
            self._model.encode(spectrogram),
            [self._prompt],
            beam_size=1,
            max_length=len(self._prompt) + 1,
            return_logits_vocab=True,
            suppress_blank=False,
            suppress_tokens=None,
        )[0]
        logits = torch.from_numpy(np.array(answer.logits[0]).ravel().astype(np.float64))
        probabilities = logits.softmax(0)
        letters = torch.stack([probabilities[tokens].sum() for tokens in self._tokens]) + FLOOR
        return (letters / letters.sum()).log()


def load_judge(name: str, model: str = MODEL, helped: Config | None = None) -> WhisperJudge:
    """Returns a judge.

    Args:
        name: whisper, the only one there is.
        model: name of a model at the Hugging Face hub, such as base or small, or a folder in CTranslate2's format.
        helped: configuration of the model that it helps; None for letters at 16 kHz.

    Raises:
        UserError: the name is unknown, the labels or the rate do not suit it, faster-whisper is not installed, or the
            model is neither here nor to be had.
    """
    if name != "whisper":
        raise UserError(f"judge: expected whisper, found {name!r}")
    helped = helped or Config()
    if helped.labels != LETTERS:
        labels = describe(helped.labels)
        raise UserError(f"judge: whisper judges the letters A to Z, but the labels of the model are {labels}")
    if helped.input.sample_rate != SAMPLE_RATE:
        raise UserError(f"judge: whisper needs {SAMPLE_RATE} Hz; the model has {helped.input.sample_rate} Hz as input")
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise UserError("judge: faster-whisper is not installed: python -m pip install 'speechmlp[whisper]'") from error
    if Path(model).is_dir() and (missing := [file for file in FILES if not (Path(model) / file).is_file()]):
        raise UserError(f"{model}: expected a Whisper model in CTranslate2's format, found no {missing[0]}")
    try:
        return WhisperJudge(WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads()))
    except (RuntimeError, OSError, ValueError) as error:  # a broken file, no network, an unknown name
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"judge: the Whisper model {model!r} cannot be loaded: {why[0]}; give a folder that holds it"
        ) from error
