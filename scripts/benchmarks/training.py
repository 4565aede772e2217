#!/usr/bin/env python3
"""Measures training: utterances a second, compared with a limit and with other ways to do the same.

Ways take turns, round after round, on the same utterances and the same network: what else the machine does meets all.
Processor time, of workers too, measures the work; unlike the rate, it hardly changes while other programs run.

its features: reading, augmentation and front end alone, with the forward pass of learnt endpoints.
limit: the step's matrix products alone, on tensors that lie ready, and a fused Adam update; on a GPU as a CUDA graph.
WAV: a DataLoader that reads a file and computes its features an item at a time, in this process or in two workers; by
torchaudio.load, as tutorials do (with the extra ffmpeg), or by soundfile, which is quicker.
Lightning, Trainer: Lightning's and Hugging Face's loops over the same waveforms in memory, with this project's front
end on whole batches and the configuration's optimizer and clipping, without the average of weights; measured where they
are installed (pip install --target FOLDER lightning transformers accelerate, then PYTHONPATH=FOLDER).
"""

import argparse
import contextlib
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, TensorDataset

from speechmlp.audio_format import FULL_SCALE, SAMPLE_RATE
from speechmlp.config.loading import load_config
from speechmlp.config.schema import Config
from speechmlp.data.dataset import DeviceCorpus, SpokenLetters
from speechmlp.data.packed import open_packed
from speechmlp.data.sampler import Sampler
from speechmlp.environment import keep_freed_memory
from speechmlp.errors import UserError, run_command
from speechmlp.models.classifier import SpeechClassifier
from speechmlp.models.inference import make_deterministic, select_device
from speechmlp.training.loop import Task, train
from speechmlp.training.losses import Learner
from speechmlp.training.optimizers import build_optimizer

Way = Callable[[], float]
"""Trains on every utterance once and returns the seconds."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", required=True)
    parser.add_argument("--utterances", type=int, metavar="N", default=1536, help="per round (%(default)s)")
    parser.add_argument("--rounds", type=int, metavar="N", default=7, help="after one to warm up (%(default)s)")
    parser.add_argument("--without", metavar="NAME", help="leave out the ways whose names begin so, as in WAV")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


class Recordings(Dataset[tuple[Tensor, Tensor]]):
    """WAV files, each read and turned into features when it is asked for."""

    def __init__(self, folder: Path, labels: Tensor, model: SpeechClassifier, reader: str) -> None:
        self.folder, self.labels, self.model, self.reader = folder, labels, model, reader

    def __len__(self) -> int:
        return len(self.labels)

    @torch.no_grad()
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self.folder / f"{index}.wav"
        if self.reader == "torchaudio":
            waveform = torchaudio.load(path)[0]
        else:
            waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
        return self.model.training_features(waveform)[0][0], self.labels[index]


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the matrix products that run under it, and can run them again on tensors of their own."""

    KINDS = ("mm", "addmm", "bmm", "baddbmm")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation, and remembers it where it is a product."""
        result = func(*args, **(kwargs or {}))
        if (name := func.overloadpacket.__name__) in self.KINDS:
            left, right = args[1:3] if name.endswith("addmm") or name == "baddbmm" else args[:2]
            fresh = [
                torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).fill_(0.5)
                for x in (left, right)
            ]
            self.pairs.append((fresh[0], fresh[1], torch.empty_like(result)))
        return result

    def run(self) -> None:
        """Runs the products again."""
        for left, right, result in self.pairs:
            torch.matmul(left, right, out=result)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _corpus(config: Config, count: int, device: torch.device) -> DeviceCorpus:
    letters = SpokenLetters(open_packed(config.corpus), "train")
    rows = torch.randint(len(letters), (count,), generator=torch.Generator().manual_seed(0))
    waveforms = torch.cat([batch.waveforms for batch in letters.to(torch.device("cpu")).batches(256, rows)])
    samples = (waveforms * FULL_SCALE).to(torch.int16).to(device)
    positions = torch.arange(count, device=device)
    return DeviceCorpus([samples], [positions], letters.labels[rows].to(device), letters.lengths[rows].to(device))


def _ours(config: Config, corpus: DeviceCorpus, rounds: int) -> Way:
    model = SpeechClassifier(config).to(corpus.device)
    optimizer = build_optimizer(config.training.optimizer, model.parameters())
    one = torch.zeros(1, dtype=torch.int64, device=corpus.device)
    batch = corpus.take(one)
    valid = DeviceCorpus([(batch.waveforms * FULL_SCALE).to(torch.int16)], [one], batch.labels, batch.lengths)
    average = SpeechClassifier(config).to(corpus.device).eval() if config.training.ema else None
    training = config.training.model_copy(update={"epochs": rounds + 1})
    sampler = Sampler(corpus.labels, [len(corpus)], [], config.training.balance)
    epochs = train(Task(model, corpus, sampler, valid, training, average), optimizer)
    return lambda: next(epochs).seconds


def _limit(config: Config, corpus: DeviceCorpus) -> Way:
    model = SpeechClassifier(config).to(corpus.device)
    learner = Learner(model, config.training, None).train()
    batch = corpus.take(torch.arange(config.training.batch_size, device=corpus.device))
    with Products() as products:
        learner(batch)[0].backward()
    on_gpu = corpus.device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), 1e-9, fused=True, capturable=on_gpu)

    def bare() -> None:
        products.run()
        optimizer.step()

    bare()  # makes the optimizer's state
    graph = torch.cuda.CUDAGraph() if on_gpu else None
    if graph is not None:
        with torch.cuda.graph(graph):
            bare()

    def way() -> float:
        _wait(corpus.device)
        started = time.perf_counter()
        for _ in range(len(corpus) // config.training.batch_size):
            if graph is None:
                bare()
            else:  # what it reads lives as long as `bare`, which this function holds
                graph.replay()
        _wait(corpus.device)
        return time.perf_counter() - started

    return way


def _features(config: Config, corpus: DeviceCorpus) -> Way:
    model = SpeechClassifier(config).to(corpus.device).train()

    def way() -> float:
        started = time.perf_counter()
        for batch in corpus.batches(config.training.batch_size):
            model.training_features(batch.waveforms)
        _wait(corpus.device)
        return time.perf_counter() - started

    return way


def _loader(config: Config, corpus: DeviceCorpus, folder: Path, reader: str, workers: int) -> Way:
    itemwise = config.model_copy(update={"front_end": config.front_end.model_copy(update={"endpoints": "energy"})})
    model = SpeechClassifier(itemwise if config.front_end.kind == "aligned" else config)
    data = Recordings(folder, corpus.labels.cpu(), model, reader)
    data[0]  # an ImportError, where the reader is not there
    loader = DataLoader(data, config.training.batch_size, shuffle=True, num_workers=workers)
    network = SpeechClassifier(config).to(corpus.device).network.train()
    optimizer = build_optimizer(config.training.optimizer, network.parameters())

    def way() -> float:
        started = time.perf_counter()
        for features, labels in loader:
            optimizer.zero_grad()
            with torch.autocast(corpus.device.type, torch.bfloat16, enabled=config.training.precision == "bfloat16"):
                logits = network(features.to(corpus.device))
            F.cross_entropy(logits.float(), labels.to(corpus.device)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        _wait(corpus.device)
        return time.perf_counter() - started

    return way


class Whole(nn.Module):
    """Network with its loss, as trainers take it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.training_config, self.model = config.training, SpeechClassifier(config)

    def forward(self, waveforms: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the loss of waveforms [B, 16000] and labels [B]."""
        features, extra = self.model.training_features(waveforms)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.training_config.precision == "bfloat16"):
            logits = self.model.network(features)
        return {"loss": F.cross_entropy(logits.float(), labels) + extra}


def _lightning(config: Config, corpus: DeviceCorpus, waveforms: Tensor) -> Way:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.whole = Whole(config)
            self.seconds = 0.0

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            return self.whole(*batch)["loss"]  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return build_optimizer(config.training.optimizer, self.parameters())

        def on_train_epoch_start(self) -> None:
            self.seconds = -time.perf_counter()

        def on_train_epoch_end(self) -> None:
            _wait(corpus.device)
            self.seconds += time.perf_counter()

    module = Module()
    loader = DataLoader(TensorDataset(waveforms, corpus.labels.cpu()), config.training.batch_size, shuffle=True)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    def way() -> float:
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu" if corpus.device.type == "cpu" else "gpu",
            gradient_clip_val=config.training.clip_grad_norm,
            **quiet,
        )
        trainer.fit(module, loader)
        return module.seconds

    return way


def _hugging_face(config: Config, corpus: DeviceCorpus, waveforms: Tensor, scratch: str) -> Way:
    import transformers

    class Items(Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return len(waveforms)

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return {"waveforms": waveforms[index], "labels": corpus.labels[index].cpu()}

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.seconds = -time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            _wait(corpus.device)
            self.seconds += time.perf_counter()

    watch, whole = Watch(), Whole(config)

    def way() -> float:
        settings = transformers.TrainingArguments(
            scratch,
            num_train_epochs=1,
            per_device_train_batch_size=config.training.batch_size,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=corpus.device.type == "cpu",
            max_grad_norm=config.training.clip_grad_norm or 0.0,
        )
        optimizers = (build_optimizer(config.training.optimizer, whole.parameters()), None)
        with contextlib.redirect_stdout(sys.stderr):  # it prints a summary
            transformers.Trainer(
                whole, settings, train_dataset=Items(), callbacks=[watch], optimizers=optimizers
            ).train()
        return watch.seconds

    return way


def _ways(config: Config, corpus: DeviceCorpus, folder: Path, rounds: int, without: str | None) -> dict[str, Way]:
    waveforms = torch.cat([batch.waveforms.cpu() for batch in corpus.batches(256)])
    for number, waveform in enumerate(waveforms):
        soundfile.write(folder / f"{number}.wav", waveform.numpy(), SAMPLE_RATE, subtype="PCM_16")
    ways = {
        "ours": _ours(config, corpus, rounds),
        "its features": _features(config, corpus),
        "limit": _limit(config, corpus),
    }
    peers: dict[str, Callable[[], Way]] = {
        f"WAV by {reader}, {workers} workers": partial(_loader, config, corpus, folder, reader, workers)
        for reader in ("torchaudio", "soundfile")
        for workers in (0, 2)
    }
    peers |= {
        "Lightning": lambda: _lightning(config, corpus, waveforms),
        "Trainer": lambda: _hugging_face(config, corpus, waveforms, str(folder / "trainer")),
    }
    for name, peer in peers.items():
        if without is not None and name.startswith(without):
            continue
        try:
            ways[name] = peer()
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return ways


def _ratio(found: dict[str, list[float]], name: str) -> float:
    """Returns the median over rounds of a way's figure as a multiple of ours; the first round warms up."""
    return statistics.median(other / own for own, other in zip(found["ours"][1:], found[name][1:], strict=True))


def _measure(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    if arguments.rounds < 1 or arguments.utterances < config.training.batch_size:
        raise UserError("--rounds and --utterances: expected 1 or more, and a batch or more")
    keep_freed_memory()
    device = select_device(config.device)
    if config.training.deterministic:
        make_deterministic(device)
    torch.manual_seed(0)
    count = arguments.utterances // config.training.batch_size * config.training.batch_size
    times: dict[str, list[float]] = {}
    work: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="speechmlp-benchmark-") as scratch:
        ways = _ways(config, _corpus(config, count, device), Path(scratch), arguments.rounds, arguments.without)
        for _ in range(arguments.rounds + 1):
            for name, way in ways.items():
                before = sum(os.times()[:4])  # this process and its ended children
                times.setdefault(name, []).append(way())
                work.setdefault(name, []).append(sum(os.times()[:4]) - before)
    print(f"{Path(arguments.config).name} {' '.join(arguments.overrides)}".strip(), end="")
    print(f", batch {config.training.batch_size}, {count} utterances a round, {arguments.rounds} rounds; ", end="")
    print(f"{torch.get_num_threads()} threads, {device}\n")
    print(
        "| | utterances a second | least and most | a round, s | ours is faster | processor ms each | ours needs less |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, found in times.items():
        rates = [count / seconds for seconds in found[1:]]
        middle = statistics.median(found[1:])
        each = 1000 * statistics.median(work[name][1:]) / count
        print(
            f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} – {max(rates):,.0f} | {middle:.3f} ",
            end="",
        )
        print(f"| {_ratio(times, name):.2f} × | {each:.3f} | {_ratio(work, name):.2f} × |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_parser(), _measure, None))
