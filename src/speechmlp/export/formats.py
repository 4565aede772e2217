"""The classifier in files for other programs: ONNX and quantised ONNX."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from speechmlp import __version__
from speechmlp.errors import UserError
from speechmlp.export.portable import (
    FoldedSpectrum,
    Parity,
    PortableClassifier,
    Predictor,
    compare,
    describe,
    odd_waveforms,
)
from speechmlp.files import replacing
from speechmlp.runs.checkpoint import Checkpoint

INPUT, OUTPUT = "waveforms", "probabilities"
OPSET = 20
"""Of ONNX: the first with GELU."""
LARGEST_CONSTANT = 1 << 15
"""Numbers; larger results of constants are computed when the file is opened instead of stored in it."""


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
        raise UserError(f"{error.name} is not installed: python -m pip install 'speechmlp[export]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns of packages that it could use, the quantiser of steps that change nothing here.
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
    front_end = model.classifier.front_end
    if front_end.spectrum is not None:
        front_end.spectrum = FoldedSpectrum(front_end.spectrum)  # type: ignore[assignment]
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
    require_onnx()
    form = FORMATS[kind]
    try:
        with replacing(output) as partial:
            partial.touch()  # where nothing can be written is told before the work
            form.write(partial, checkpoint, name)
            parity = compare(checkpoint, form.read(partial), odd_waveforms())
            if parity.difference > form.difference or parity.other_letters > form.other_letters * parity.compared:
                raise UserError(
                    f"{output}: not written, because it is not the model that PyTorch runs: of {parity.compared} odd "
                    f"waveforms {parity.other_letters} get other letters, and probabilities differ by up to "
                    f"{parity.difference:.2g}; take another --format"
                )
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error
    return parity
