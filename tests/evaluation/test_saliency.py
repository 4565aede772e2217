"""Integrated gradients: they add up, they find what decides, and they belong to the weights."""

import copy
from pathlib import Path

import pytest
import torch

from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import SpokenLetters
from speechmlp.data.sampler import Sampler
from speechmlp.evaluation.saliency import _readable, integrated_gradients, mean_pictures
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.training.loop import Task, train
from speechmlp.training.losses import fit_normalizer
from speechmlp.training.optimizers import build_optimizer

CPU = torch.device("cpu")
FRONT_ENDS = [
    "front_end={kind: log_mel, hop_length: 800}",
    "front_end={kind: mfcc, hop_length: 800}",
    "front_end={kind: aligned, endpoints: both}",
]


def trained(manifest: Path, *overrides: str, epochs: int = 8) -> tuple[SpeechClassifier, torch.Tensor, torch.Tensor]:
    """Returns a model that was trained on tones, with validation waveforms and labels."""
    config: Config = load_config(None, ["model.hidden=[64]", "training.optimizer.lr=0.003", *overrides])
    cache = str(manifest.parent.parent / "cache")
    training, valid = (SpokenLetters.from_manifest(str(manifest), split, cache).to(CPU) for split in ("train", "valid"))
    torch.manual_seed(0)
    model = SpeechClassifier(config)
    fit_normalizer(model, training)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    sampler = Sampler(training.labels, [len(training)], [], balance=0.0)
    settings = config.training.model_copy(update={"epochs": epochs})
    list(train(Task(model, training, sampler, valid, settings), optimizer))
    batch = valid.take(torch.arange(26))
    return model.eval(), batch.waveforms, batch.labels


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_they_add_up_to_the_difference_from_silence(front_end: str, tone_corpus: Path) -> None:
    model, waveforms, labels = trained(tone_corpus, front_end)
    cells = integrated_gradients(model, waveforms, labels)
    assert cells is not None
    assert torch.isfinite(cells).all()
    found = _readable(model, waveforms)
    assert found is not None
    log_mel, probabilities = found
    assert cells.shape == log_mel.shape
    with torch.no_grad():
        spoken, silent = (
            probabilities(energies).gather(1, labels[:, None])[:, 0]
            for energies in (log_mel, log_mel.amin((1, 2), keepdim=True).expand_as(log_mel))
        )
        expected = model(waveforms).log_softmax(1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(spoken, expected, atol=1e-4)  # it is the model that is explained
    difference = spoken - silent
    assert difference.mean() > 1
    assert torch.allclose(cells.sum((1, 2)), difference, atol=0.05 * difference.abs().max().item())


def test_tones_are_recognised_where_they_are(tone_corpus: Path) -> None:
    model, waveforms, labels = trained(tone_corpus, FRONT_ENDS[0], epochs=30)
    cells = integrated_gradients(model, waveforms, labels)
    assert cells is not None
    recorded = (waveforms != 0).float().mean(0)
    inside = torch.nn.functional.adaptive_max_pool1d(recorded[None], cells.shape[1])[0] > 0
    strength = cells.abs().mean((0, 2))
    assert strength[inside].mean() > 3 * strength[~inside].mean()


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_random_weights_give_another_picture(front_end: str, tone_corpus: Path) -> None:
    """The sanity check of Adebayo et al. (2018): a picture that does not depend on the weights explains nothing."""
    model, waveforms, labels = trained(tone_corpus, front_end)
    randomised = copy.deepcopy(model)
    torch.manual_seed(1)
    for parameter in randomised.network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.std().item())
    pictures = [integrated_gradients(m, waveforms, labels) for m in (model, model, randomised)]
    flat = [picture.flatten(1) for picture in pictures if picture is not None]
    same, other = (
        torch.nn.functional.cosine_similarity(flat[0], flat[number], dim=1).abs().mean().item() for number in (1, 2)
    )
    assert same == pytest.approx(1.0, abs=1e-5)
    assert other < 0.5


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_each_letter_has_a_mean_picture(front_end: str, tone_corpus: Path) -> None:
    model, waveforms, labels = trained(tone_corpus, front_end, epochs=1)
    pictures = mean_pictures(model, waveforms, labels, columns=30)
    assert sorted(pictures) == list(range(26))
    assert all(picture.shape == (30, 40) and torch.isfinite(picture).all() for picture in pictures.values())
    assert mean_pictures(model, waveforms[:0], labels[:0]) == {}


def test_models_of_raw_waveforms_have_no_picture() -> None:
    model = SpeechClassifier(load_config(None, ["model.hidden=[4]"])).eval()
    assert integrated_gradients(model, torch.randn(2, 16_000), torch.tensor([0, 1])) is None
