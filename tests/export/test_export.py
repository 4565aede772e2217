"""Exported files compared with PyTorch: on odd waveforms, on spoken letters, and without torch installed."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from speechmlp import __version__
from speechmlp.config.loading import load_config
from speechmlp.config.schema import CorpusConfig
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.errors import UserError
from speechmlp.export.formats import FORMATS, export
from speechmlp.export.portable import FoldedSpectrum, compare, odd_waveforms
from speechmlp.labels import LETTERS
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.features import LogMel
from speechmlp.models.spectrum import MelSpectrum
from speechmlp.runs.checkpoint import Checkpoint, load_checkpoint
from tests.conftest import Run
from tests.forks import Forks

COMMAND = ["-m", "speechmlp.export"]


@pytest.fixture(scope="module")
def files(spoken_checkpoint: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in every format, written by the command."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in FORMATS:
        result = forks.run([*COMMAND, "--checkpoint", spoken_checkpoint, "--format", kind], folder)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"Wrote letters{FORMATS[kind].suffix}: " in result.stdout
        assert "Compared with PyTorch on " in result.stdout
    assert {path.name for path in folder.iterdir()} == {f"letters{form.suffix}" for form in FORMATS.values()}
    return {kind: folder / f"letters{form.suffix}" for kind, form in FORMATS.items()}


def spoken(manifest: Path, split: str | None = None) -> tuple[Tensor, Tensor]:
    """Returns waveforms [N, 16000] and labels [N] of a corpus."""
    cache = str(manifest.parent / "cache")
    packed = open_packed(CorpusConfig(manifest=str(manifest), cache=cache, on_error="skip", outside=True))
    corpus = SpokenLetters(packed, split).to(torch.device("cpu"))  # type: ignore[arg-type]
    batch = corpus.take(torch.arange(len(corpus)))
    return batch.waveforms, batch.labels


def changed(waveforms: Tensor) -> Tensor:
    """Returns spoken letters that are clipped, noisy, quiet, with an offset, or shifted over the edge."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(waveforms.shape, generator=generator)
    shift = torch.randint(4000, 12_000, (len(waveforms),), generator=generator)
    rolled = torch.stack([wave.roll(int(samples)) for wave, samples in zip(waveforms, shift, strict=True)])
    parts = [(20 * waveforms).clamp(-1, 1), waveforms + 0.05 * noise, 0.5 * waveforms + 0.3, rolled, 1e-3 * waveforms]
    return torch.cat([part[number :: len(parts)] for number, part in enumerate(parts)])


def require_same(checkpoint: Checkpoint, files: dict[str, Path], waveforms: Tensor, labels: Tensor) -> None:
    """Compares probabilities of the float file, and the accuracy of the int8 file."""
    parity = compare(checkpoint, FORMATS["onnx"].read(files["onnx"]), waveforms)
    assert parity.compared + parity.undecided == len(waveforms)
    assert parity.undecided <= 0.01 * len(waveforms)
    assert (parity.other_letters, parity.difference) <= (0, 1e-4)
    clean = waveforms[: len(labels)]
    accuracy = {
        kind: (FORMATS[kind].read(file)(clean).argmax(1) == labels).float().mean().item()
        for kind, file in files.items()
    }
    assert accuracy["onnx"] > 0.5
    assert abs(accuracy["int8"] - accuracy["onnx"]) < 0.005 + 1 / len(labels)


def test_predictions_equal_those_of_pytorch(
    spoken_checkpoint: Path, files: dict[str, Path], synthetic_corpus: Path
) -> None:
    clean, labels = spoken(synthetic_corpus)
    waveforms = torch.cat([clean, changed(clean)[::3], odd_waveforms()])
    require_same(load_checkpoint(spoken_checkpoint), files, waveforms, labels)


@pytest.mark.slow
@pytest.mark.corpus
def test_predictions_on_real_recordings_equal_those_of_pytorch(
    spoken_checkpoint: Path, files: dict[str, Path], real_recordings: Path, tmp_path: Path
) -> None:
    rows = [line.split("\t") for line in (real_recordings / "prompts" / "index.tsv").read_text().splitlines()]
    column = {name: rows[0].index(name) for name in ("path", "letter", "speaker", "start", "end")}
    lines = [
        "\t".join([str(real_recordings / "prompts" / row[column["path"]]), *(row[column[n]] for n in list(column)[1:])])
        for row in rows[1:]
    ]
    (tmp_path / "manifest.tsv").write_text("\n".join(["\t".join(column), *lines]) + "\n")
    clean, _ = spoken(tmp_path / "manifest.tsv")
    waveforms = torch.cat([clean, changed(clean)])[::4]
    assert len(waveforms) > 300
    parity = compare(load_checkpoint(spoken_checkpoint), FORMATS["onnx"].read(files["onnx"]), waveforms)
    assert (parity.other_letters, parity.difference) <= (0, 1e-4)


def test_files_run_without_torch(spoken_checkpoint: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('not here')\n")
    waveforms = odd_waveforms()
    np.save(tmp_path / "waveforms.npy", waveforms.numpy())
    program = (
        "import sys, json, numpy, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(files['onnx'])!r}, providers=['CPUExecutionProvider'])\n"
        "one, = session.run(None, {'waveforms': numpy.load('waveforms.npy')[:1]})\n"
        "all, = session.run(None, {'waveforms': numpy.load('waveforms.npy')})\n"
        "assert one.shape == (1, 26) and abs(one - all[:1]).max() < 1e-5\n"
        "numpy.save('probabilities.npy', all)\n"
        "print(json.dumps(session.get_modelmeta().custom_metadata_map))\n"
        "assert not any(name.split('.')[0] in ('torch', 'speechmlp') for name in sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    checkpoint = load_checkpoint(spoken_checkpoint)
    found = torch.from_numpy(np.load(tmp_path / "probabilities.npy"))
    assert compare(checkpoint, lambda _: found, waveforms).difference <= 1e-4
    metadata = json.loads(result.stdout)
    assert metadata["labels"].split() == list(LETTERS)
    assert (metadata["sample_rate"], metadata["num_samples"]) == ("16000", "16000")
    assert float(metadata["temperature"]) == checkpoint.temperature != 1.0
    assert float(metadata["reject_below"]) == checkpoint.reject_below
    assert (metadata["name"], metadata["speechmlp"]) == ("letters", __version__)
    assert json.loads(metadata["front_end"])["kind"] == "aligned"


def test_files_have_the_right_shapes_and_no_local_paths(files: dict[str, Path]) -> None:
    for kind in ("onnx", "int8"):
        model = onnx.load(files[kind])
        onnx.checker.check_model(model, full_check=True)
        (waveforms,), (probabilities,) = model.graph.input, model.graph.output
        shapes = [
            [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
            for tensor in (waveforms, probabilities)
        ]
        assert shapes == [["N", 16_000], ["N", 26]]
        assert b"site-packages" not in model.SerializeToString()
        assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()
    assert files["int8"].stat().st_size < 0.9 * files["onnx"].stat().st_size


def test_nan_stays_within_its_waveform(files: dict[str, Path]) -> None:
    waveforms = odd_waveforms()[-3:].clone()
    expected = FORMATS["onnx"].read(files["onnx"])(waveforms)
    waveforms[1, 8000] = float("nan")
    found = FORMATS["onnx"].read(files["onnx"])(waveforms)
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
    assert found[1].isnan().all()


KINDS = [
    ("{kind: raw}", "{hidden: [32], norm: batch, activation: tanh}"),
    ("{kind: log_mel, normalizer: utterance}", "{hidden: [32], norm: layer}"),
    ("{kind: mfcc, normalizer: corpus, n_fft: 400, hop_length: 320}", "{kind: mixer, width: 32, blocks: 1}"),
    ("{kind: aligned, endpoints: energy}", "{kind: gmlp, width: 32, blocks: 1}"),
]


@pytest.mark.parametrize(("front_end", "model"), KINDS, ids=[pair[0].split()[1].strip(",}") for pair in KINDS])
def test_every_kind_of_front_end_can_be_exported(front_end: str, model: str, tmp_path: Path) -> None:
    config = load_config(None, [f"front_end={front_end}", f"model={model}"])
    torch.manual_seed(0)
    classifier = SpeechClassifier(config).eval()
    if classifier.normalizer.kind == "corpus":
        channels = classifier.front_end.shape[0]
        classifier.normalizer.set_statistics(torch.randn(channels), torch.rand(channels) + 0.5)
    waveforms = odd_waveforms()
    with torch.no_grad():
        output = [part for part in classifier.network.modules() if isinstance(part, torch.nn.Linear)][-1]
        output.weight *= 3 / classifier(waveforms).std()  # probabilities as high as those of a trained model
    checkpoint = Checkpoint(config, classifier, None, [], temperature=1.5)
    parity = export(checkpoint, "any", "onnx", tmp_path / "any.onnx")
    assert parity.compared > 60
    assert (parity.other_letters, parity.difference) <= (0, 1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        "n_fft: 512, win_length: 400, hop_length: 160",
        "n_fft: 1024, win_length: 801, hop_length: 333",
        "n_fft: 511, win_length: 511, hop_length: 512",
        "n_fft: 400, win_length: 3, hop_length: 100",
    ],
)
def test_the_folded_spectrum_equals_the_fourier_transform(sizes: str) -> None:
    config = load_config(None, [f"front_end={{kind: log_mel, n_mels: 20, {sizes}}}"])
    front_end = SpeechClassifier(config).front_end
    assert isinstance(front_end, LogMel)
    for spectrum in (front_end.spectrum, MelSpectrum(config.front_end, "constant", mean_power=True)):  # type: ignore[arg-type]
        waveforms = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(FoldedSpectrum(spectrum)(waveforms), spectrum(waveforms), rtol=1e-4, atol=1e-6)


def test_a_file_with_other_predictions_is_not_kept(
    spoken_checkpoint: Path, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = replace(load_checkpoint(spoken_checkpoint), temperature=2.0)

    def write(path: Path, checkpoint: Checkpoint, name: str, ends: bool) -> None:
        shutil.copy(files["onnx"], path)

    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=write))
    (tmp_path / "model.onnx").write_text("an earlier one")
    with pytest.raises(UserError, match=r"model\.onnx: not written, because its predictions differ from PyTorch"):
        export(checkpoint, "model", "onnx", tmp_path / "model.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]


def test_mistakes_end_in_one_line(spoken_checkpoint: Path, run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = ["--checkpoint", str(spoken_checkpoint)]
    mistakes = [
        (["--checkpoint", "absent.pt"], "absent.pt: no such checkpoint"),
        ([*model, "--output", "absent/model.onnx"], "absent/model.onnx: cannot be written: No such file or directory"),
        ([*model, "--output", "file/model.onnx"], "file/model.onnx: cannot be written: Not a directory"),
    ]
    for arguments, expected in mistakes:
        result = run_python(*COMMAND, *arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert expected in result.stderr
    (tmp_path / "onnxscript.py").write_text("raise ImportError('not here', name='onnxscript')\n")
    result = run_python(*COMMAND, *model)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "onnxscript is not installed: python -m pip install 'speechmlp[export]'" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"file", "onnxscript.py"}


def test_files_use_common_operators_only(files: dict[str, Path]) -> None:
    for kind in ("onnx", "int8"):
        model = onnx.load(files[kind])
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
        assert {node.op_type for node in model.graph.node}.isdisjoint({"DFT", "STFT", "If", "Loop", "Scan"})
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()
