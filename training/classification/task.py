"""The trainer's task of classification: patches of images, losses of three classifiers, top-1 and top-5.

Letters for shapes: N images of a piece of a minibatch, C classes; S the side of the network's input.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from tyro.conf import Suppress, arg

from detector.cli.command_line import at_least
from detector.errors import DatasetError
from detector.evaluation.classification import top_k_error
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.preprocessing import Preprocessing
from detector.inference.torch_engine import InferenceNetwork, TorchEngine, choose_precision, place
from detector.inference.torch_networks import ClassifierHeads
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from training.classification.dataloader import (
    Augmentation,
    ImageBatch,
    TrainingBatches,
    ValidationBatches,
)
from training.classification.dataset import ImageList
from training.trainer.dataloader import load_items
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.excluded_images import BrokenImages
from training.trainer.optimization import Averaging, Decay, RateSchedule, TrainingSettings
from training.trainer.run_log import Lines, lines_before

BEST, LAST, ACCURACY = "best.safetensors", "last.safetensors", "accuracy.jsonl"
"""Names of the checkpoints and of the list of validations in a run's folder."""

_KS = (1, 5)


@dataclass(frozen=True)
class PretrainRecipe(TrainingSettings):
    """Settings of a run; with the data and the initial weights they decide its course.

    From the paper (arXiv 1409.4842, sections 5 and 6): momentum, 4 % off the rate every 8 epochs, Polyak
    averaging (here over the last quarter), the patches and their color jitter, side classifiers at
    ``auxiliary``; dropout is the network's. Not in the paper: the rate, the size of a minibatch, weight
    decay, and ``warmup`` (at most a tenth of the run), which a network without batch normalisation needs.
    """

    epochs: Annotated[int, at_least(1)] = 80
    """How often each image is seen."""
    batch: Annotated[int, at_least(1)] = 128
    """Images a minibatch, over all devices."""
    accumulate: Annotated[int, at_least(1)] = 1
    """Run a minibatch in so many pieces: less memory, the same gradient."""
    rate: float = 0.02
    warmup: Annotated[int, at_least(0)] = 2000
    decay: Decay = Decay.PAPER
    weight_decay: float = 2e-4
    averaging: Averaging = Averaging.POLYAK
    ema_decay: float = 0.999
    average_from: float = 0.75
    auxiliary: float = 0.3
    """Weight of the side classifiers."""
    frozen_through: str = "none"
    """Last stage that keeps the weights of --init; 'none' trains all."""
    augmentation: Annotated[Augmentation | None, Suppress] = field(default_factory=Augmentation)
    """How images are augmented."""
    validate_every: Annotated[int, at_least(1), arg(name="measure-every")] = 1
    """Epochs between validations."""
    save_every: Annotated[int, at_least(1)] = 500


class ClassifierLosses(NamedTuple):
    """Scalars: the weighted sum, and the cross-entropy of the main and of the two side classifiers."""

    total: Tensor
    main: Tensor
    aux_4a: Tensor
    aux_4d: Tensor


class ClassificationTask:
    """Training of a classifier (a :class:`training.trainer.trainer.Task`)."""

    def __init__(
        self,
        network: nn.Module,
        images: ImageList,
        preprocessing: Preprocessing,
        recipe: PretrainRecipe,
        *,
        broken: BrokenImages,
        device: torch.device,
        world: ProcessGroup,
        workers: int = 0,
        validation: "ClassifierValidation | None" = None,
    ) -> None:
        """Train ``network``, which gives three logits [N,C] in training, those of the side classifiers last.

        ``broken`` is told of images that cannot be read; ``validation`` measures the weights on the way.
        """
        self.module = network.to(memory_format=torch.channels_last)
        self.batches = TrainingBatches(
            images,
            recipe.augmentation,
            size=preprocessing.size,
            batch=recipe.batch,
            accumulate=recipe.accumulate,
            seed=recipe.seed,
            world=world,
        )
        epoch_length = self.batches.epoch_length
        iterations = recipe.epochs * epoch_length
        warmup = min(recipe.warmup, iterations // 10)
        self.schedule = RateSchedule(iterations, warmup, recipe.decay, epoch_length)
        self.validation_interval = recipe.validate_every * epoch_length
        self._images, self._recipe, self._broken, self._workers = images, recipe, broken, workers
        self._device, self._validation = device, validation
        self._precision = choose_precision("auto", device)
        self._mean = torch.tensor(preprocessing.mean, device=device)[:, None, None]
        self._std = torch.tensor(preprocessing.std, device=device)[:, None, None]
        digest = hashlib.sha256(self.batches.digest())
        for value in network.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        self._digest = digest.digest()  # before initialisation by the images, which differs among machines

    def parameter_groups(self) -> list[dict[str, Any]]:
        trained = [weight for weight in self.module.parameters() if weight.requires_grad]
        return [{"params": trained, "lr": self._recipe.rate}]

    def digest(self) -> bytes:
        return self._digest

    def minibatches(self, first: int, last: int) -> Iterator[list[ImageBatch]]:
        pieces = self._recipe.accumulate
        numbers = range(first * pieces, last * pieces)
        batches = load_items(self.batches, numbers, self._device, self._workers)
        for _ in range(first, last):
            minibatch = [next(batches) for _ in range(pieces)]
            for batch in minibatch:
                _report(self._broken, self._images, batch)
            yield minibatch

    def pieces(self, minibatch: list[ImageBatch]) -> Sequence[ImageBatch]:
        return minibatch

    def losses(self, module: nn.Module, piece: ImageBatch) -> ClassifierLosses:
        """Return the sums over the piece's images, divided by the number of images of the whole minibatch."""
        pixels = piece.pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # N x 3 x S x S
        labels = piece.labels.to(self._device, non_blocking=True)
        pixels = (pixels.float() - self._mean) / self._std  # channels_last, as the bytes came
        mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=mixed):
            output = module(pixels)
        main, *aux = (
            F.cross_entropy(logits.float(), labels, reduction="sum") / self.batches.batch for logits in output
        )
        return ClassifierLosses(main + self._recipe.auxiliary * sum(aux), main, *aux)

    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        return self._validation.validate(done, averaged) if self._validation is not None else None


class ClassifierValidation:
    """Measures averaged weights as ``evaluate_cls`` does with one crop, and writes checkpoints."""

    def __init__(
        self,
        images: ImageList,
        metadata: Metadata,
        output: Path,
        broken: BrokenImages,
        *,
        device: torch.device,
        world: ProcessGroup,
        workers: int = 0,
    ) -> None:
        """Measure on ``images``. ``metadata`` is the checkpoints', but for the metrics."""
        self._images, self._metadata, self._output, self._broken = images, metadata, output, broken
        self._device, self._world, self._workers = device, world, workers

    def validate(self, done: int, averaged: nn.Module) -> Validation:
        """Measure top-1 and top-5 accuracy after ``done`` iterations.

        Of several processes each measures a share. The first writes ACCURACY and the checkpoints LAST and, if
        no top-1 before was as high, BEST. Raises DatasetError if no image could be read.
        """
        classes = self._metadata.classification
        assert classes is not None
        network = GoogLeNet(len(classes))
        weights = averaged.state_dict()
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
        accuracy, count = self._accuracy(network)
        validation = Validation(accuracy, loss=1 - accuracy["top-1"])
        if not self._world.first:
            return validation
        figures = ", ".join(f"{name} {value:.1%}" for name, value in accuracy.items())
        tqdm.write(f"iteration {done}: {figures} on {count} pictures")
        path = self._output / ACCURACY
        best = max((json.loads(line)["top-1"] for line in lines_before(path, done)), default=-1.0)
        metrics = {f"{name} of {count} pictures": round(value, 4) for name, value in accuracy.items()}
        checkpoint = Checkpoint(network.cpu().float().eval(), replace(self._metadata, metrics=metrics))
        save_checkpoint(self._output / LAST, checkpoint)
        if accuracy["top-1"] > best:
            save_checkpoint(self._output / BEST, checkpoint)
        Lines(path, done).add({"iteration": done, **accuracy})
        return validation

    def _accuracy(self, network: GoogLeNet) -> tuple[dict[str, float], int]:
        """Return accuracy by name, and on how many images; the same in every process."""
        parts = InferenceNetwork(network.features, ClassifierHeads([network], len(network.classifier.bias)))
        engine = TorchEngine(place(parts, device=str(self._device)))
        batches = ValidationBatches(self._images, self._metadata.preprocessing, self._world)
        counts = torch.zeros(1 + len(_KS), dtype=torch.float64)
        for batch in tqdm(
            load_items(batches, range(len(batches)), self._device, self._workers),
            desc="measuring",
            total=len(batches),
            leave=False,
            disable=not self._world.first,
        ):
            _report(self._broken, self._images, batch)
            counts += _hits(engine, batch)
        measured, *hits = self._world.total(counts.to(self._device)).tolist()
        if not measured:
            raise DatasetError("none of the pictures to measure on could be read")
        return {f"top-{k}": hit / measured for k, hit in zip(_KS, hits, strict=True)}, int(measured)


def _hits(engine: TorchEngine, batch: ImageBatch) -> Tensor:
    """Return counts [1+K]: the images of a batch, and how many of them are right among the best k."""
    count = len(batch.labels)
    if not count:
        return torch.zeros(1 + len(_KS), dtype=torch.float64)
    request = ForwardRequest.of(engine, batch.pixels.to(engine.device))
    scores = run_directly(request)["0.probabilities"]
    error = top_k_error(scores, batch.labels.numpy(), _KS)
    right = [round((1 - error[k]) * count) for k in _KS]
    return torch.tensor([count, *right], dtype=torch.float64)


def _report(broken: BrokenImages, images: ImageList, batch: ImageBatch) -> None:
    broken.report({images.name(index): reason for index, reason in batch.broken.items()})
