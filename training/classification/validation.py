"""Measuring a classifier while it is trained, and keeping the last and the best as checkpoints."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from detector.errors import DatasetError
from detector.evaluation.classification import top_k_error
from detector.inference.classifier import ClassifierHeads
from detector.inference.engine import Engine, InferenceNetwork, place
from detector.inference.executor import ForwardRequest, run_directly
from detector.io.atomic_write import write_whole
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from training.classification.dataloader import MeasuredPieces, Piece, loader
from training.classification.dataset import ImageList
from training.common.broken_images import BrokenImages
from training.common.distributed import World
from training.common.run_log import lines_before

BEST, LAST, ACCURACY = "best.safetensors", "last.safetensors", "accuracy.jsonl"
"""What the checkpoints and the list of measures are called in a run's folder."""

_KS = (1, 5)


class Results:
    """Measures averaged weights as ``evaluate_cls`` does with one crop, and writes them out."""

    def __init__(
        self,
        images: ImageList,
        metadata: Metadata,
        output: Path,
        broken: BrokenImages,
        *,
        device: torch.device,
        world: World,
        workers: int = 0,
    ) -> None:
        """``metadata`` is the checkpoints', but for the metrics."""
        self._images, self._metadata, self._output, self._broken = images, metadata, output, broken
        self._device, self._world, self._workers = device, world, workers
        self._history = output / ACCURACY

    def measure(self, done: int, weights: dict[str, Tensor]) -> dict[str, float]:
        """Top-1 and top-5 accuracy of the weights after ``done`` iterations, into ACCURACY; the
        checkpoints LAST and, if no top-1 before it was as high, BEST.

        Of several processes each measures a share, and the first writes. Raises DatasetError if no picture
        could be read.
        """
        classes = self._metadata.classification
        assert classes is not None
        network = GoogLeNet(len(classes))
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
        accuracy, count = self._accuracy(network)
        if not self._world.first:
            return accuracy
        tqdm.write(
            f"iteration {done}: "
            + ", ".join(f"{name} {value:.1%}" for name, value in accuracy.items())
            + f" on {count} pictures"
        )
        before = lines_before(self._history, done)
        best = max((json.loads(line)["top-1"] for line in before), default=-1.0)
        metrics = {f"{name} of {count} pictures": round(value, 4) for name, value in accuracy.items()}
        checkpoint = Checkpoint(network.cpu().float().eval(), replace(self._metadata, metrics=metrics))
        save_checkpoint(self._output / LAST, checkpoint)
        if accuracy["top-1"] > best:
            save_checkpoint(self._output / BEST, checkpoint)
        lines = [*before, json.dumps({"iteration": done, **accuracy})]
        write_whole(self._history, "".join(f"{line}\n" for line in lines).encode())
        return accuracy

    def _accuracy(self, network: GoogLeNet) -> tuple[dict[str, float], int]:
        """Accuracy by name, and of how many pictures; the same in every process."""
        parts = InferenceNetwork(network.features, ClassifierHeads([network], len(network.classifier.bias)))
        engine = Engine(place(parts, device=str(self._device)))
        pieces = MeasuredPieces(self._images, self._metadata.preprocessing, self._world)
        counts = torch.zeros(1 + len(_KS), dtype=torch.float64)
        for piece in tqdm(
            loader(pieces, range(len(pieces)), self._device, self._workers),
            desc="measuring",
            leave=False,
            disable=not self._world.first,
        ):
            counts += self._hits(engine, piece)
        measured, *hits = self._world.total(counts.to(self._device)).tolist()
        if not measured:
            raise DatasetError("none of the pictures to measure on could be read")
        return {f"top-{k}": hit / measured for k, hit in zip(_KS, hits, strict=True)}, int(measured)

    def _hits(self, engine: Engine, piece: Piece) -> Tensor:
        """[1+K]: the pictures of a piece, and how many of them are right among the best k."""
        self._broken.report({self._images.name(index): why for index, why in piece.broken.items()})
        count = len(piece.labels)
        if not count:
            return torch.zeros(1 + len(_KS), dtype=torch.float64)
        request = ForwardRequest.of(engine, piece.pixels.to(engine.device))
        scores = run_directly(request)["probabilities"]
        error = top_k_error(scores.numpy(), piece.labels.numpy(), _KS)
        right = [round((1 - error[k]) * count) for k in _KS]
        return torch.tensor([count, *right], dtype=torch.float64)
