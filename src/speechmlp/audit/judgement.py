"""What the judges of labels say together, and how far it can be trusted.

Judges are a network that is cross-validated over speakers, a trained model, and Whisper if it is asked. Their
log-probabilities are added with weights that are fitted on the labels (logarithmic opinion pool, Genest & Zidek, 1986),
which also calibrates them. A fraction of the labels, fitted too, may be any letter, so that wrong labels do not make
the judges look unsure.

A judge that is often wrong doubts many right labels. How many it would doubt if every label were right is found by
drawing labels from its own probabilities: what it doubts then is its mistake. Only doubts beyond these are evidence
of wrong labels.

Dimension key: `N` utterances, `S` judges.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from speechmlp.audit.findings import Judgement
from speechmlp.audit.label_errors import doubt
from speechmlp.evaluation.bootstrap import CONFIDENCE, SpeakerBootstrap

USUAL = {"network": 0.3, "model": 1.0, "whisper": 1.0}
"""Weights of the judges before any label is seen."""
HELD = 10.0
"""How strongly weights are held there, and the fraction of labels of any letter at 0, in letters."""
DRAWS = 200
FEWEST_DRAWS = 40
"""For large corpora, whose counts vary less."""
LARGE = 20_000


def pool(judges: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Returns log-probabilities float64 [N, 26] of judges together.

    Args:
        judges: name, of `USUAL` -> probabilities [N, 26].
        labels: int64 [N], some of which may be wrong.
    """
    logs = torch.stack([one.double().clamp_min(1e-6).log() for one in judges.values()])  # [S, N, 26]
    usual = torch.tensor([USUAL[name] for name in judges], dtype=torch.float64).log()
    usual = torch.zeros_like(usual) if len(judges) == 1 else usual
    log_weights = usual.clone().requires_grad_()
    noise = torch.tensor(-4.0, dtype=torch.float64).requires_grad_()  # logit of the fraction of labels of any letter
    optimizer = torch.optim.LBFGS([log_weights, noise], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        together = (log_weights.exp()[:, None, None] * logs).sum(0).log_softmax(1)
        right = F.logsigmoid(-noise) + together.gather(1, labels[:, None])[:, 0]
        anything = F.logsigmoid(noise) - math.log(logs.shape[2])
        found = HELD * ((log_weights - usual).square().sum() - F.logsigmoid(-noise))
        found = found - torch.logaddexp(right, anything).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return (log_weights.detach().exp()[:, None, None] * logs).sum(0).log_softmax(1)


def judge(
    probabilities: Tensor, labels: Tensor, speakers: Sequence[str], judges: Sequence[str], seed: int = 0
) -> Judgement:
    """Returns how far doubts can be trusted.

    Args:
        probabilities: [N, 26] of the judges together.
        labels: int64 [N].
        speakers: N names.
        judges: what judged, for reports.
        seed: of the drawn labels.
    """
    bootstrap = SpeakerBootstrap(speakers)
    agreement = bootstrap.fraction(probabilities.argmax(1) == labels)
    assert agreement is not None
    counted = doubt(probabilities, labels).confident.double()
    names = {name: number for number, name in enumerate(dict.fromkeys(speakers))}
    group = torch.tensor([names[name] for name in speakers])
    if len(names) == 1:
        group = torch.arange(len(speakers))
    groups = int(group.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    false, wrong = [], []
    for _ in range(DRAWS if len(labels) < LARGE else FEWEST_DRAWS):
        drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        mistaken = doubt(probabilities, drawn).confident.double()
        beyond = torch.zeros(groups, dtype=torch.float64).index_add_(0, group, counted - mistaken)
        again = torch.randint(groups, (groups,), generator=generator)
        false.append(mistaken.sum())
        wrong.append(beyond[again].sum())
    every = int(counted.sum())
    tails = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    false_low, false_high = (round(float(value)) for value in torch.stack(false).quantile(tails))
    wrong_low, wrong_high = (round(float(value)) for value in torch.stack(wrong).quantile(tails).clamp(0, every))
    expected = float(torch.stack(false).mean())
    return Judgement(
        judges=tuple(judges),
        agreement=agreement,
        counted=every,
        expected_false=round(expected, 1),
        expected_false_low=false_low,
        expected_false_high=false_high,
        wrong=round(max(0.0, every - expected)),
        wrong_low=wrong_low,
        wrong_high=wrong_high,
        certain=wrong_low > 0 and expected <= every / 2,
    )
