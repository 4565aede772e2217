"""Export of the classifier to ONNX, in float32 or quantised."""

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

INPUT, OUTPUT, ENDS = "waveforms", "probabilities", "ends"
OPSET = 20
"""ONNX operator set: the first with GELU."""
LARGEST_CONSTANT = 1 << 15
"""Elements of a folded constant; larger ones are computed when the file is loaded instead of stored in it."""


def require_onnx() -> None:
    """Checks that the packages for ONNX are installed.

    Raises:
        UserError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: python -m pip install 'speechmlp[export]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns of optional packages, the quantiser of preprocessing that changes nothing here.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def write_onnx(path: Path, checkpoint: Checkpoint, name: str, ends: bool = False) -> None:
    """Writes an ONNX file: `waveforms` float32 [N, T] -> `probabilities` [N, L].

    Args:
        path: the file.
        checkpoint: the model.
        name: of the model, for the metadata.
        ends: whether there is also the output `ends` [N, 2] in samples, if the front end finds them.
    """
    import onnxscript.optimizer
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    model = PortableClassifier(checkpoint, ends)
    front_end = model.classifier.front_end
    if front_end.spectrum is not None:
        front_end.spectrum = FoldedSpectrum(front_end.spectrum)  # type: ignore[assignment]
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            (odd_waveforms(checkpoint.model.audio)[:3],),
            input_names=[INPUT],
            output_names=[OUTPUT, ENDS] if model.ends else [OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        # The full optimizer would treat the floor of the mel energies, 1e-9, as zero and drop it.
        onnxscript.optimizer.fold_constants(program.model, output_size_limit=LARGEST_CONSTANT)
        onnxscript.optimizer.remove_unused_nodes(program.model)
        ClearMetadataAndDocStringPass()(program.model)  # stack traces with paths of this machine
    program.model.producer_name, program.model.producer_version = "speechmlp", __version__
    program.model.metadata_props.update(describe(checkpoint, name))
    program.save(path)


def write_int8(path: Path, checkpoint: Checkpoint, name: str, ends: bool = False) -> None:
    """Writes an ONNX file whose dense layers are int8; the front end stays float32.

    Weights are quantised per output, activations dynamically by their range, so that no calibration data are needed.

    Args:
        path: the file.
        checkpoint: the model.
        name: of the model, for the metadata.
        ends: as `write_onnx`.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        write_onnx(plain, checkpoint, name, ends)
        model = onnx.load(plain)
        graph = model.graph
        # ONNX Runtime up to 1.23, the last one for Python 3.10, infers shapes again and stops if they differ from those
        # that the exporter noted for inner values.
        del graph.value_info[:]
        onnx.save(model, plain)
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
    """Returns the model of an ONNX file, run with ONNX Runtime on the CPU.

    Args:
        path: the file.
        threads: number of threads; 0 for one per core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda waveforms: torch.from_numpy(session.run([OUTPUT], {INPUT: waveforms.numpy()})[0])


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffix: of the file name.
        write: writes a file, given its path, a checkpoint, the model's name and whether it has `ends`.
        read: returns the model of a file, given its path.
        difference: largest accepted difference of a probability from PyTorch.
        other_letters: largest accepted fraction of odd waveforms with another letter.
    """

    suffix: str
    write: Callable[[Path, Checkpoint, str, bool], None]
    read: Callable[..., Predictor]
    difference: float
    other_letters: float


FORMATS = {
    "onnx": Format(".onnx", write_onnx, read_onnx, 1e-4, 0.0),
    # Many odd waveforms have several almost equally probable letters, so quantisation changes some.
    "int8": Format(".int8.onnx", write_int8, read_onnx, 1.0, 0.2),
}


def export(checkpoint: Checkpoint, name: str, kind: str, output: Path, ends: bool = False) -> Parity:
    """Exports a model, and keeps the file only if its predictions equal those of PyTorch.

    Args:
        checkpoint: the model.
        name: of the model, for the metadata.
        kind: the format, one of `FORMATS`.
        output: the file.
        ends: whether start and end of the letter are an output too.

    Returns:
        The difference between the file and PyTorch on `odd_waveforms`.

    Raises:
        UserError: the predictions differ, the file cannot be written, or a package is missing.
    """
    require_onnx()
    form = FORMATS[kind]
    try:
        with replacing(output) as partial:
            partial.touch()  # fails before the work if it cannot be written
            form.write(partial, checkpoint, name, ends)
            parity = compare(checkpoint, form.read(partial), odd_waveforms(checkpoint.model.audio))
            if parity.difference > form.difference or parity.other_letters > form.other_letters * parity.compared:
                raise UserError(
                    f"{output}: not written, because its predictions differ from PyTorch: other letters for "
                    f"{parity.other_letters} of {parity.compared} odd waveforms, probabilities differ by up to "
                    f"{parity.difference:.2g}; choose another --format"
                )
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error
    return parity
