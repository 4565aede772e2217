"""Evaluates a trained classifier: `python -m speechmlp.evaluate [--checkpoint F] [--manifest F] [--split test]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.audio.condition_names import SWEEPS, parse_condition
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command

if TYPE_CHECKING:
    from torch import Tensor

PAGE = "index.html"
EXAMPLES = 12
"""Mistakes shown in the report."""
OF_EACH = 8
"""Utterances of each letter whose mean shows what decides."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m speechmlp.evaluate",
        description="Report the accuracy of a trained spoken-letter classifier.",
        epilog="example: python -m speechmlp.evaluate --manifest my_recordings.csv",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="the model; the best one of the newest run by default")
    parser.add_argument(
        "--runs", metavar="FOLDER", default="runs", help="where to look for the newest run (%(default)s)"
    )
    parser.add_argument("--manifest", metavar="FILE", help="the utterances; those of the model's own corpus by default")
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="test by default, or every utterance of a manifest without splits",
    )
    parser.add_argument(
        "--condition",
        metavar="NAME",
        default="clean",
        help="how to listen: clean, telephone, white_10db, babble_5db, reverb_400ms, gain_-20db, shift_-200ms, "
        "speed_115 and the like (%(default)s)",
    )
    parser.add_argument("--sweep", action="store_true", help="find the accuracy over levels of every condition too")
    parser.add_argument("--on-error", choices=("fail", "skip"), help="what to do about recordings that cannot be read")
    parser.add_argument(
        "--skip-limit",
        type=float,
        metavar="SHARE",
        help="largest share that skip leaves out; the model's own by default",
    )
    parser.add_argument("--outside", action="store_true", help="recordings may lie outside the manifest's folder")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument(
        "--negatives",
        metavar="FILE",
        nargs="*",
        help="manifests of recordings without a letter, which should be declined; those of the model's own "
        "configuration by default, none with --manifest",
    )
    parser.add_argument("--compare", metavar="FILE", help="another checkpoint, on the same utterances")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    parser.add_argument("--report", metavar="FOLDER", help="write a page with pictures and sounds, and the JSON, there")
    return parser


def _some_of_each(labels: "Tensor", right: "Tensor") -> "Tensor":
    """Returns the positions of the first `OF_EACH` recognised utterances of each letter."""
    import torch

    places = [((labels == letter) & right).nonzero()[:OF_EACH, 0] for letter in set(labels.tolist())]
    return torch.cat(places)


def _evaluate(arguments: argparse.Namespace) -> int:
    parse_condition(arguments.condition)
    import_torchaudio()
    import torch
    from tqdm import tqdm

    from speechmlp.config.loading import override_config
    from speechmlp.corpora.files import new_corpus
    from speechmlp.data.dataset import SpokenLetters, load_negatives
    from speechmlp.data.manifest import Split, shared_speakers
    from speechmlp.data.packed import open_packed
    from speechmlp.evaluation.bootstrap import SpeakerBootstrap
    from speechmlp.evaluation.comparison import compare
    from speechmlp.evaluation.groups import find_groups
    from speechmlp.evaluation.html_examples import find_examples
    from speechmlp.evaluation.html_report import render_report
    from speechmlp.evaluation.metrics import find_mistakes, score, score_rejection
    from speechmlp.evaluation.pictures import load_pyplot
    from speechmlp.evaluation.results import Evaluation, Robustness
    from speechmlp.evaluation.saliency import mean_pictures
    from speechmlp.evaluation.text import format_comparison, format_rejection, format_robustness, format_scores
    from speechmlp.files import write_text
    from speechmlp.models.inference import predict, select_device
    from speechmlp.runs.checkpoint import load_checkpoint
    from speechmlp.runs.folder import newest_checkpoint

    if arguments.report:
        load_pyplot()  # told before the work, not after it
    path = Path(arguments.checkpoint) if arguments.checkpoint else newest_checkpoint(arguments.runs)
    checkpoint = load_checkpoint(path)
    overrides = {
        "corpus.manifest": arguments.manifest,
        "corpus.on_error": arguments.on_error,
        "corpus.skip_limit": arguments.skip_limit,
        "corpus.outside": arguments.outside or None,
        "device": arguments.device,
    }
    config = override_config(
        checkpoint.config, [f"{key}={json.dumps(value)}" for key, value in overrides.items() if value is not None]
    )
    device = select_device(config.device)
    packed = open_packed(config.corpus)
    has_splits = any(utterance.split is not None for utterance in packed.utterances)
    if arguments.split and not has_splits:
        raise UserError(f"{config.corpus.manifest}: has no splits; leave --split out to evaluate all of it")
    split: Split | None = (arguments.split or "test") if has_splits else None
    utterances = SpokenLetters(packed, split)
    corpus = utterances.heard(arguments.condition, device)
    model = checkpoint.model.to(device)
    logits, labels = predict(model, corpus)
    temperature, speakers = checkpoint.temperature, utterances.speakers
    ids = [utterance.id for utterance in utterances.utterances]
    comparison = None
    if arguments.compare:
        other = load_checkpoint(arguments.compare).model.to(device)
        comparison = compare(str(arguments.compare), logits, predict(other, corpus)[0], labels, speakers, ids)
    robustness = []
    if arguments.sweep:
        names = [(kind, name) for kind, conditions in SWEEPS.items() for name in conditions]
        for kind, name in tqdm(names, "listening", disable=None):
            right = predict(model, utterances.heard(name, device))[0].argmax(1) == labels
            accuracy = SpeakerBootstrap(speakers).share(right)
            if accuracy is not None:
                robustness.append(
                    Robustness(kind=kind, condition=name, level=parse_condition(name)[1], accuracy=accuracy)
                )
    of_model = [] if arguments.manifest else [negatives.manifest for negatives in config.corpus.negatives]
    manifests = of_model if arguments.negatives is None else arguments.negatives
    rejection = None
    if manifests:
        negatives, kinds = load_negatives(config.corpus, manifests, split)
        others = torch.cat([predict(model, part.heard(arguments.condition, device))[0] for part in negatives])
        rejection = score_rejection(logits, others, kinds, checkpoint.reject_below, temperature)
    mistakes = find_mistakes(logits, labels, speakers, ids, temperature)
    groups = find_groups(utterances.utterances, utterances.lengths, utterances.power())
    evaluation = Evaluation(
        checkpoint=str(path),
        manifest=config.corpus.manifest,
        split=split,
        condition=arguments.condition,
        temperature=temperature,
        left_out=len(packed.skipped),
        scores=score(logits, labels, speakers, temperature=temperature, groups=groups),
        mistakes=tuple(mistake for _, mistake in mistakes),
        robustness=tuple(robustness),
        comparison=comparison,
        rejection=rejection,
    )

    epoch = next((record.epoch for record in reversed(checkpoint.history) if record.best), len(checkpoint.history))
    print(f"Checkpoint: {path}{'' if arguments.checkpoint else ' (the newest run)'}, epoch {epoch}")
    print(f"Corpus: {config.corpus.manifest}, {f'split {split}' if split else 'every utterance (it has no splits)'}")
    if shared := shared_speakers(packed.utterances):
        print(f"Known voices: {len(shared)} speakers are in several splits, so this says little about new ones")
    if arguments.condition != "clean":
        print(f"Condition: {arguments.condition}")
    for problem in packed.skipped:
        print(f"left out: {problem}", file=sys.stderr)
    if packed.skipped:
        print(f"Left out: {len(packed.skipped)} recordings of the manifest that cannot be read")
    print(format_scores(evaluation.scores))
    if robustness:
        print(format_robustness(robustness))
    if comparison is not None:
        print(format_comparison(comparison))
    if rejection is not None:
        print(format_rejection(rejection))
    text = evaluation.model_dump_json(indent=2) + "\n"
    if arguments.json:
        write_text(Path(arguments.json), text)
    if arguments.report:
        shown = mistakes[:EXAMPLES]
        places = torch.tensor([place for place, _ in shown], dtype=torch.int64, device=device)
        waveforms = corpus.take(places).waveforms
        examples = find_examples(model, waveforms, [mistake for _, mistake in shown])
        known = corpus.take(_some_of_each(labels, logits.argmax(1) == labels).to(device))
        pictures = mean_pictures(model, known.waveforms, known.labels)
        page = render_report(evaluation, checkpoint.history, examples, pictures)
        with new_corpus(arguments.report, mark=PAGE) as folder:
            (folder / "evaluation.json").write_text(text, encoding="utf-8")
            (folder / PAGE).write_text(page, encoding="utf-8")
        print(f"Report: {Path(arguments.report) / PAGE}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(_parser(), _evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
