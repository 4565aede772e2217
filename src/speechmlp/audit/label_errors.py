"""Labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang, 2021) with cross-validation.

A small MLP is trained on aligned features, once for each fold of speakers without that fold. Its predictions for the
fold do not depend on the fold's own labels.

Dimension key: `N` utterances, `D` features, `K` folds, `L` labels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from speechmlp.config.schedule import lr_share
from speechmlp.config.schema import MLPConfig, OneCycleConfig
from speechmlp.data.manifest import UNKNOWN_SPEAKER
from speechmlp.labels import LETTERS
from speechmlp.models.classifier import MLP

FOLDS = 5
EPOCHS = 15
BATCH = 64
NETWORK = MLPConfig(hidden=(256,), activation="gelu", norm="batch", dropout=0.5)


@dataclass(frozen=True)
class Doubts:
    """How doubtful each label is.

    Attributes:
        margin: float32 [N], the probability of the most probable other letter minus that of the label: -1 to 1.
        suggested: int64 [N], that letter.
        confident: bool [N], whether another letter is as probable as it is on average for utterances with that label
            (the off-diagonal of the confident joint): an estimate of which labels are wrong, not only a ranking.
    """

    margin: Tensor
    suggested: Tensor
    confident: Tensor


def folds_of(speakers: Sequence[str], names: Sequence[str]) -> Tensor:
    """Returns the fold of each utterance, int64 [N]: speakers are dealt out in the order of a hash of their names.

    Args:
        speakers: of each utterance.
        names: of each utterance; used instead if the speaker is unknown.
    """
    keys = [name if speaker == UNKNOWN_SPEAKER else speaker for speaker, name in zip(speakers, names, strict=True)]
    if len(set(keys)) < FOLDS:  # too few speakers for speaker-disjoint folds
        keys = list(names)
    ordered = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode(errors="surrogateescape")).digest())
    fold = {key: number % FOLDS for number, key in enumerate(ordered)}
    return torch.tensor([fold[key] for key in keys])


def _train(features: Tensor, labels: Tensor, count: int, seed: int) -> nn.Module:
    """Returns an MLP trained on features [M, D] with labels [M], of `count` different ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MLP(NETWORK, features.shape[1], count)
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
        batches = max(1, len(labels) // BATCH)
        steps = EPOCHS * batches
        network.train()
        for step in range(steps):
            if step % batches == 0:
                order = torch.randperm(len(labels), generator=generator)
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * lr_share(OneCycleConfig(), step, steps)
            chosen = order[(step % batches) * BATCH :][:BATCH]
            loss = F.cross_entropy(network(features[chosen].float()), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def cross_validate(
    features: Tensor, labels: Tensor, folds: Tensor, *, count: int = len(LETTERS), seed: int = 0
) -> Tensor:
    """Returns out-of-fold probabilities, float32 [N, L]: of each utterance by a network trained without its fold.

    Args:
        features: [N, D].
        labels: int64 [N].
        folds: int64 [N].
        count: L.
        seed: of the initial weights and the order.
    """
    probabilities = torch.full((len(labels), count), 1 / count)
    for fold in tqdm(sorted(set(folds.tolist())), "cross-validating", unit=" folds", disable=None):
        held = folds == fold
        if held.all() or (~held).sum() < 2:
            continue
        network = _train(features[~held], labels[~held], count, seed + fold)
        with torch.no_grad():
            parts = [network(part.float()).softmax(1) for part in torch.split(features[held], 1024)]
        probabilities[held] = torch.cat(parts)
    return probabilities


def doubt(probabilities: Tensor, labels: Tensor) -> Doubts:
    """Returns how doubtful labels int64 [N] are, given out-of-fold probabilities [N, L]."""
    own = probabilities.gather(1, labels[:, None])[:, 0]
    others = probabilities.scatter(1, labels[:, None], -1.0)
    highest, suggested = others.max(1)
    one_hot = F.one_hot(labels, probabilities.shape[1]).to(probabilities)
    # A letter's threshold: its mean probability over the utterances labelled with it.
    thresholds = (probabilities * one_hot).sum(0) / one_hot.sum(0).clamp_min(1)
    thresholds = torch.where(one_hot.sum(0) > 0, thresholds, torch.ones_like(thresholds))
    above = probabilities >= thresholds
    likeliest = probabilities.masked_fill(~above, -1.0).argmax(1)
    confident = above.any(1) & (likeliest != labels)
    return Doubts(highest - own, suggested, confident)
