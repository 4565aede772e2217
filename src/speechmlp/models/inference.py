"""Predictions of a model for a corpus, batch by batch, and the device for them.

Dimension key: `N`, `M` utterances, `L` labels.
"""

import os
import re

import torch
from torch import Tensor
from tqdm import tqdm

from speechmlp.data.dataset import DeviceCorpus
from speechmlp.data.sampler import num_batches
from speechmlp.errors import UserError
from speechmlp.models.classifier import SpeechClassifier

EVALUATION_BATCH = 256
"""Large enough to fill two cores, small enough that features of a batch stay in cache."""


def select_device(wanted: str | torch.device) -> torch.device:
    """Returns the device that is meant by auto, cpu, cuda or cuda:N, or by a `torch.device`.

    Raises:
        UserError: it is another one; or CUDA is requested and not available, or has no such device.
    """
    name = str(wanted)
    if not re.fullmatch(r"auto|cpu(:0)?|cuda(:\d+)?", name):
        raise UserError(f"device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name.removesuffix(":0") if name.startswith("cpu") else name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device: {name} is requested, but no CUDA device can be used here; use cpu or auto")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise UserError(f"device: expected cuda:0 to cuda:{torch.cuda.device_count() - 1}, found {name}")
    return device


def make_deterministic(device: torch.device) -> None:
    """Makes CUDA kernels deterministic; those of the CPU always are."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


@torch.inference_mode()
def predict_logits(model: SpeechClassifier, corpus: DeviceCorpus, positions: Tensor, bar: bool = True) -> Tensor:
    """Returns logits float32 [M, L], on the corpus's device, of the utterances at positions int64 [M]."""
    model.eval()
    batches = corpus.batches(EVALUATION_BATCH, positions)
    total = num_batches(len(positions), EVALUATION_BATCH)
    logits = [torch.empty(0, model.num_labels, device=corpus.device)]
    for batch in tqdm(batches, "predicting", total, leave=False, disable=None if bar else True):
        logits.append(model(batch.waveforms).float())
    return torch.cat(logits)


@torch.inference_mode()
def predict(model: SpeechClassifier, corpus: DeviceCorpus) -> tuple[Tensor, Tensor]:
    """Returns logits float32 [N, L] and labels int64 [N] of every utterance, in the corpus's order."""
    logits = predict_logits(model, corpus, torch.arange(len(corpus)))
    return logits.cpu(), corpus.labels.cpu()
