"""The classifier for other programs: ONNX, quantised ONNX and TorchScript, and what tells whether they are the same.

The front end is inside: waveforms go in, probabilities come out.

Dimension key: `N` waveforms, `T` samples (16000), `F` frames, `C` mel bands, `K` frequencies that the bands hear.
"""

import copy
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechmlp import __version__
from speechmlp.audio import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.checkpoint import Checkpoint
from speechmlp.errors import UserError
from speechmlp.frontends import MelSpectrum, Raw
from speechmlp.labels import LETTERS

INPUT, OUTPUT, METADATA = "waveforms", "probabilities", "metadata.json"
OPSET = 20
"""Of ONNX: the first with GELU."""
LARGEST_CONSTANT = 1 << 16
"""Numbers; larger results of constants are computed when the file is opened instead of stored in it."""

UNDECIDED = 2e-5
"""Difference of a probability between float64 and float32 from which on rounding decides."""

Predictor = Callable[[Tensor], Tensor]
"""From waveforms float32 [N, T] to probabilities float32 [N, 26]."""


class PortableClassifier(nn.Module):
    """What is exported: waveforms float32 [N, T] at 16 kHz -> probabilities [N, 26]."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Takes a copy of the model.

        Args:
            checkpoint: with the temperature that logits are divided by.
        """
        super().__init__()
        self.classifier = copy.deepcopy(checkpoint.model).eval()
        self.temperature = checkpoint.temperature

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the probabilities [N, 26] of waveforms [N, T]."""
        # All readings as one batch, so that a file holds the network once.
        readings = self.classifier.readings(waveforms)
        logits = self.classifier.network(self.classifier.normalizer(torch.cat(readings)))
        scores = logits.log_softmax(1).unflatten(0, (len(readings), -1)).mean(0)
        return (scores / self.temperature).softmax(1)  # type: ignore[no-any-return]


class ConvolvedSpectrum(nn.Module):
    """`MelSpectrum` as one convolution: [N, T] -> [N, F, C].

    Its kernels are the cosines and sines of the Fourier transform under the window, of those frequencies alone that a
    band hears. ONNX has a Fourier transform too, but runtimes for telephones and browsers lack it, and ONNX Runtime's
    takes longer than this.
    """

    frequency: Tensor
    sample: Tensor
    circle: Tensor
    window: Tensor
    bands: Tensor

    def __init__(self, spectrum: MelSpectrum) -> None:
        """Takes sizes, window and bands.

        Args:
            spectrum: whose numbers are wanted.
        """
        super().__init__()
        self.n_fft, self.hop_length, self.padding = spectrum.n_fft, spectrum.hop_length, spectrum.padding
        sample = spectrum.window.nonzero()[:, 0]
        frequency = spectrum.bands.sum(1).nonzero()[:, 0]
        self.sides = (self.n_fft // 2 - int(sample[0]), int(sample[-1]) + 1 - self.n_fft // 2)
        circle = torch.cos(2 * math.pi / self.n_fft * torch.arange(self.n_fft, dtype=torch.float64)).float()
        self.register_buffer("sample", sample)  # [taps]
        self.register_buffer("frequency", frequency)  # [K]
        self.register_buffer("circle", circle)  # [n_fft]
        self.register_buffer("window", spectrum.window[sample])  # [taps]
        self.register_buffer("bands", spectrum.bands[frequency])  # [K, C]

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the mel energies [N, F, C] of waveforms [N, T]."""
        # From whole numbers and a table, so that the file stays small; a runtime computes it once.
        phase = self.frequency[:, None] * self.sample
        phase = torch.cat([phase, phase + self.n_fft // 4]) % self.n_fft  # cosines, then sines: [2 K, taps]
        kernels = (self.circle[phase] * self.window)[:, None]
        padded = F.pad(waveforms[:, None], self.sides, mode=self.padding)
        cosine, sine = F.conv1d(padded, kernels, stride=self.hop_length).chunk(2, 1)  # [N, K, F]
        return (cosine * cosine + sine * sine).transpose(1, 2) @ self.bands


def describe(checkpoint: Checkpoint, name: str) -> dict[str, str]:
    """Returns what a program must know to use an exported model.

    Args:
        checkpoint: the model.
        name: of the model.
    """
    return {
        "name": name,
        "speechmlp": __version__,
        "labels": " ".join(LETTERS),
        "sample_rate": str(SAMPLE_RATE),
        "num_samples": str(NUM_SAMPLES),
        "temperature": repr(checkpoint.temperature),
        "reject_below": repr(checkpoint.reject_below),
        "front_end": checkpoint.config.front_end.model_dump_json(),
        "model": checkpoint.config.model.model_dump_json(),
    }


def require_onnx() -> None:
    """Makes sure that what ONNX files take is installed.

    Raises:
        UserError: with what to install.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed: python -m pip install 'speechmlp[export]', or take --format torchscript"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter tells of packages that it could use, the quantiser of steps that change nothing here, and TorchScript
    # that its days are counted.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def write_onnx(path: Path, checkpoint: Checkpoint, name: str) -> None:
    """Writes an ONNX file: `waveforms` float32 [N, T] -> `probabilities` [N, 26].

    Args:
        path: the file.
        checkpoint: the model.
        name: of the model, for the metadata.
    """
    import onnxscript.optimizer
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    model = PortableClassifier(checkpoint)
    if not isinstance(model.classifier.front_end, Raw):
        model.classifier.front_end.spectrum = ConvolvedSpectrum(model.classifier.front_end.spectrum)  # type: ignore[assignment]
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            (odd_waveforms()[:3],),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        # The whole optimizer would take the floor of the mel energies, 1e-9, for zero and drop it.
        onnxscript.optimizer.fold_constants(program.model, output_size_limit=LARGEST_CONSTANT)
        onnxscript.optimizer.remove_unused_nodes(program.model)
        ClearMetadataAndDocStringPass()(program.model)  # stack traces, which name files of this machine
    program.model.producer_name, program.model.producer_version = "speechmlp", __version__
    program.model.metadata_props.update(describe(checkpoint, name))
    program.save(path)


def write_int8(path: Path, checkpoint: Checkpoint, name: str) -> None:
    """Writes an ONNX file whose dense layers are int8; the front end stays float32.

    Weights are rounded per output, activations by their range at each call, so that no recordings are needed to
    calibrate.

    Args:
        path: the file.
        checkpoint: the model.
        name: of the model, for the metadata.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        write_onnx(plain, checkpoint, name)
        graph = onnx.load(plain).graph
        bands = [node.name for node in graph.node if any(tensor.endswith("spectrum.bands") for tensor in node.input)]
        with _quiet():
            quantize_dynamic(
                plain,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=bands,
            )


def write_torchscript(path: Path, checkpoint: Checkpoint, name: str) -> None:
    """Writes a TorchScript file, its metadata as JSON in the extra file `metadata.json`.

    Args:
        path: the file.
        checkpoint: the model.
        name: of the model, for the metadata.
    """
    with _quiet(), torch.inference_mode():
        traced = torch.jit.trace(PortableClassifier(checkpoint).eval(), odd_waveforms()[:3])  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files={METADATA: json.dumps(describe(checkpoint, name))})


def read_onnx(path: Path, threads: int = 0) -> Predictor:
    """Returns the model of an ONNX file, run by ONNX Runtime on the CPU.

    Args:
        path: the file.
        threads: that it may use; 0 for one a core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda waveforms: torch.from_numpy(session.run([OUTPUT], {INPUT: waveforms.numpy()})[0])


def read_torchscript(path: Path, threads: int = 0) -> Predictor:  # noqa: ARG001
    """Returns the model of a TorchScript file, on the CPU, with PyTorch's threads."""
    with _quiet():
        model = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return torch.inference_mode()(model)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Parity:
    """How much an exported model differs from its checkpoint in PyTorch.

    Attributes:
        compared: waveforms that were looked at.
        undecided: waveforms beside those, on which PyTorch's own answer depends on how it rounds.
        difference: the largest of a probability; infinite where one is no number, or none could be compared.
        other_letters: waveforms whose most probable letter is another.
    """

    compared: int
    undecided: int
    difference: float
    other_letters: int


@torch.inference_mode()
def compare(checkpoint: Checkpoint, predictor: Predictor, waveforms: Tensor) -> Parity:
    """Returns how much an exported model differs from its checkpoint on waveforms [N, T]."""
    logits = checkpoint.model(waveforms)
    expected = (logits / checkpoint.temperature).softmax(1)
    exact = PortableClassifier(checkpoint).double()(waveforms.double())
    decided = (expected - exact).abs().amax(1) <= UNDECIDED
    found = predictor(waveforms)
    difference = (found - expected)[decided].abs().nan_to_num(math.inf).amax().item() if decided.any() else math.inf
    other = (found.argmax(1) != expected.argmax(1))[decided].sum().item()
    return Parity(int(decided.sum()), int((~decided).sum()), difference, int(other))


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: writes it, given a path, a checkpoint and the model's name.
        read: returns its model, given its path.
        difference: of a probability from PyTorch, largest that is right.
        other_letters: share of odd waveforms that may get another letter.
    """

    suffix: str
    write: Callable[[Path, Checkpoint, str], None]
    read: Callable[..., Predictor]
    difference: float
    other_letters: float


FORMATS = {
    "onnx": Format(".onnx", write_onnx, read_onnx, 1e-4, 0.0),
    "torchscript": Format(".torchscript.pt", write_torchscript, read_torchscript, 1e-4, 0.0),
    # Rounded weights: most letters of odd waveforms are guesses between equals, and some fall otherwise.
    "int8": Format(".int8.onnx", write_int8, read_onnx, 1.0, 0.2),
}


def export(checkpoint: Checkpoint, name: str, kind: str, output: Path) -> Parity:
    """Writes a model for other programs, and keeps the file if it is the same model.

    Args:
        checkpoint: the model.
        name: of the model, for the metadata.
        kind: of the file, one of `FORMATS`.
        output: the file.

    Returns:
        How much the file differs from PyTorch on `odd_waveforms`.

    Raises:
        UserError: it differs, it cannot be written, or a package is missing.
    """
    if kind != "torchscript":
        require_onnx()
    form = FORMATS[kind]
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.touch()  # where nothing can be written is told before the work
        form.write(partial, checkpoint, name)
        parity = compare(checkpoint, form.read(partial), odd_waveforms())
        if parity.difference > form.difference or parity.other_letters > form.other_letters * parity.compared:
            raise UserError(
                f"{output}: not written, because it is not the model that PyTorch runs: of {parity.compared} odd "
                f"waveforms {parity.other_letters} get other letters, and probabilities differ by up to "
                f"{parity.difference:.2g}; take another --format"
            )
        partial.replace(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return parity


def odd_waveforms() -> Tensor:
    """Returns waveforms [N, T] that nobody should send and somebody will, and letter-like sounds in every place."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(NUM_SAMPLES)
    noise = torch.randn(NUM_SAMPLES, generator=generator)
    hum = torch.sin(2 * math.pi * 50 / SAMPLE_RATE * time)
    odd = [
        torch.zeros(NUM_SAMPLES),
        torch.full((NUM_SAMPLES,), 0.5),
        0.5 + 1e-4 * noise,
        (1e-5 * noise).mul(1 << 15).round() / (1 << 15),
        *(level * noise for level in (1e-4, 1e-2, 0.3)),
        noise.clamp(-1, 1),
        noise.sign(),
        1 - 2.0 * (time % 2),
        hum,
        hum.sign(),
        0.5 * torch.sin(2 * math.pi * 1000 / SAMPLE_RATE * time),
        *((time == place).float() for place in (0, NUM_SAMPLES // 2, NUM_SAMPLES - 1)),
        (time % 5000 == 0).float(),
    ]
    lengths = (320, 1600, 4000, 8000, NUM_SAMPLES)
    for number, length in enumerate(lengths):
        for place in (0, (NUM_SAMPLES - length) // 2, NUM_SAMPLES - length):  # at an edge, in the middle, at the other
            pitch = 90 * 1.15 ** len(odd) % 200 + 80
            harmonics = torch.arange(1, int(7000 / pitch))[:, None]
            formants = sum(
                torch.exp(-(((harmonics * pitch - f) / 200) ** 2)) for f in (300 + 90 * number, 2000 - place / 20)
            )
            sound = (formants * torch.sin(2 * math.pi * pitch / SAMPLE_RATE * harmonics * time[:length])).sum(0)
            voice = 1e-3 * noise
            voice[place : place + length] += 0.3 * sound / sound.abs().amax()
            odd += [voice, (20 * voice).clamp(-1, 1), voice + 0.1 * noise, 1e-3 * voice]
    return torch.stack(odd)
