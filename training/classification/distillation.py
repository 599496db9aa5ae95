"""A classifier of whole images for a detector whose training moved the trunk, distilled from another network.

Training for detection moves the maps that the 1000 classes were read from. A linear classifier of its own,
taught on pictures without labels to say what the network before said, reads them again (Hinton et al., arXiv
1503.02531, at temperature 1). Only it is trained: detection stays as it is. Letters for shapes: N images, V
views of each, S classes of whole images.
"""

import copy
import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from detector.cli.command_line import at_least
from detector.errors import CheckpointError, DatasetError, DetectorError
from detector.inference.classifier import VIEW_SIDE
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.region_crops import ImageView
from detector.inference.torch_engine import InferenceNetwork, TensorOutputs, TorchEngine
from detector.inference.torch_ensemble import TorchEnsemble
from detector.io.terminal_text import utf8_text
from detector.models.backbone import CHANNELS, Backbone
from detector.models.checkpoint import Checkpoint
from detector.models.shared_trunk import SharedTrunk
from detector.structures.boxes import Boxes, as_boxes
from detector.threads import run_alone
from training.trainer.optimization import RATE, check_ranges
from training.trainer.run_state import read_sealed, write_sealed

_PIECE = 128  # images whose features are written together: a kill costs no more
_BATCH = 64
_HELD_OUT = 20  # every 20th image is not learned from


@dataclass(frozen=True)
class DistillationSettings:
    """How the classifier is taught: AdamW, the rate falling to 0 like a cosine."""

    views: Annotated[int, at_least(1)] = 2
    """Views of each picture: the whole, then random parts of it."""
    epochs: Annotated[int, at_least(1)] = 20
    """How often each view is seen."""
    rate: float = 0.0003
    """Learning rate."""
    dropout: float = 0.2
    """Share of the features that are left out."""
    seed: int = 0
    """Seed of the parts, the order and the dropout."""

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, rate=RATE, dropout=(0, 0.9))


class Views(NamedTuple):
    """features [N,V,1024] of the detector and logits [N,V,S] of the teacher, float16; NaN for an image that
    cannot be read."""

    features: NDArray[np.float16]
    logits: NDArray[np.float16]


class _FeaturesAndLogits(nn.Module):
    """Maps [2*R,1024,h,w], the detector's and then the teacher's -> ``features`` [R,1024] of the detector and
    ``logits`` [R,S] of the teacher."""

    def __init__(self, teacher: Backbone, classes: int) -> None:
        super().__init__()
        self.teacher, self.classes = teacher, classes

    def forward(self, maps: Tensor) -> TensorOutputs:
        own, other = maps.chunk(2)
        logits = self.teacher.classify_whole(other)[:, : self.classes]
        return {"features": own.mean(dim=(2, 3)), "logits": logits}


def distil_classifier(
    detector: Checkpoint,
    teacher: Checkpoint,
    images: Sequence[Path],
    cache: Path,
    settings: DistillationSettings,
    *,
    device: str = "auto",
) -> Checkpoint:
    """Return ``detector`` with a classifier of whole images that says what ``teacher`` says of ``images``.

    ``cache`` is the folder for features, from which a run that was killed goes on. Raises CheckpointError if
    the two have no classes of whole images in common, DatasetError if too few images can be read.
    """
    classes = detector.metadata.classification
    if classes is None or detector.metadata.detection is None or teacher.metadata.classification != classes:
        raise CheckpointError(
            f"{teacher.metadata.name} cannot teach {detector.metadata.name}: a detector is needed, and a "
            "network with the same classes of whole pictures"
        )
    if not images:
        raise DatasetError("there are no pictures to learn from")
    views = _views(detector, teacher, images, cache, settings, device)
    read = ~np.isnan(views.features[:, 0, 0])
    features, logits = (torch.from_numpy(part[read]).float() for part in views)
    if len(features) < _HELD_OUT:
        raise DatasetError(f"of {len(images)} pictures {len(features)} can be read: too few to learn from")
    held_out = torch.arange(len(features)) % _HELD_OUT == _HELD_OUT - 1
    first = detector.backbone.whole or detector.backbone.classifier
    head = nn.Linear(CHANNELS, len(classes))
    with torch.no_grad():
        head.weight.copy_(first.weight[: len(classes)])
        head.bias.copy_(first.bias[: len(classes)])
    before = _agreement(head, features[held_out], logits[held_out])
    _fit(head, features[~held_out].flatten(0, 1), logits[~held_out].flatten(0, 1), settings)
    after = _agreement(head, features[held_out], logits[held_out])
    tqdm.write(
        f"{len(features)} pictures; of {int(held_out.sum())} not learned from the likeliest class is the "
        f"teacher's for {100 * before:.1f} % before, {100 * after:.1f} % after"
    )
    training = {**detector.metadata.training, "whole": {"teacher": teacher.metadata.name, **asdict(settings)}}
    result = replace(
        detector,
        network=copy.deepcopy(detector.network),
        metadata=replace(detector.metadata, training=training),
    )
    result.backbone.whole = head.eval()
    return result


def _fit(head: nn.Linear, features: Tensor, logits: Tensor, settings: DistillationSettings) -> None:
    """Teach the classifier on views: features [M,1024], logits [M,S]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=1e-4)
        steps = settings.epochs * -(-len(features) // _BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in tqdm(range(settings.epochs), desc="classifier", unit="epoch"):
            for rows in torch.randperm(len(features)).split(_BATCH):
                outputs = head(F.dropout(features[rows], settings.dropout)).log_softmax(dim=1)
                wanted = logits[rows].log_softmax(dim=1)
                loss = F.kl_div(outputs, wanted, reduction="batchmean", log_target=True)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()


@torch.inference_mode()
def _agreement(head: nn.Linear, features: Tensor, logits: Tensor) -> float:
    """Return for which share of the images the whole one's likeliest class is the teacher's."""
    return float((head(features[:, 0]).argmax(dim=1) == logits[:, 0].argmax(dim=1)).float().mean())


def _views(
    detector: Checkpoint,
    teacher: Checkpoint,
    images: Sequence[Path],
    cache: Path,
    settings: DistillationSettings,
    device: str,
) -> Views:
    """Compute what both networks say of each view, or take it from the cache."""
    placed = TorchEnsemble.place([detector, teacher], device=device)
    own, other = (checkpoint.backbone for checkpoint in placed.checkpoints)
    classes = len(detector.metadata.classification or ())
    trunk = SharedTrunk([own.features, other.features])
    engine = TorchEngine(InferenceNetwork(trunk, _FeaturesAndLogits(other, classes)))
    preprocessing = replace(detector.metadata.preprocessing, context=0, short_side=VIEW_SIDE)
    cache.mkdir(parents=True, exist_ok=True)
    key = _key([detector, teacher], settings, next(own.features.parameters()).dtype)

    def of_image(number: int) -> Views:
        try:
            view = ImageView(images[number], preprocessing)
        except (DetectorError, OSError) as error:
            tqdm.write(utf8_text(f"left out {images[number]}: {error}"))
            nothing = np.full((settings.views, 1), np.nan, np.float16)
            return Views(nothing.repeat(CHANNELS, axis=1), nothing.repeat(classes, axis=1))
        rng = np.random.default_rng([settings.seed, number])
        windows, mirrored = _windows(view, settings.views, rng)
        crops = view.crops(windows, preprocessing.size, engine.arrays)
        crops[torch.from_numpy(mirrored)] = crops[torch.from_numpy(mirrored)].flip(3)
        outputs = run_directly(ForwardRequest.of(engine, crops))
        return Views(*(outputs[name].astype(np.float16) for name in ("features", "logits")))

    parts = []
    with (
        ThreadPoolExecutor(os.cpu_count(), initializer=run_alone) as pool,
        tqdm(total=len(images), desc="features", unit="picture") as progress,
    ):
        for first in range(0, len(images), _PIECE):
            numbers = range(first, min(first + _PIECE, len(images)))
            names = json.dumps([_identity(images[number]) for number in numbers]).encode()
            path = cache / f"{hashlib.sha256(key + names).hexdigest()[:24]}.npz"
            parts.append(_kept(path) or _made(path, list(pool.map(of_image, numbers))))
            progress.update(len(numbers))
    return Views(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _windows(view: ImageView, count: int, rng: np.random.Generator) -> tuple[Boxes, NDArray[np.bool_]]:
    """Choose windows [V,4] of an image: the whole as it is, then parts of a quarter and more of it, half of
    them mirrored."""
    height, width = view.pixels.shape[:2]
    windows, mirrored = [(0.0, 0.0, float(width), float(height))], [False]
    for _ in range(count - 1):
        share, stretch = np.sqrt(rng.uniform(0.25, 1)), np.exp(rng.uniform(-0.25, 0.25))
        w, h = width * min(share * stretch, 1), height * min(share / stretch, 1)
        x, y = rng.uniform(0, 1) * (width - w), rng.uniform(0, 1) * (height - h)
        windows.append((x, y, x + w, y + h))
        mirrored.append(bool(rng.random() < 0.5))
    return as_boxes(windows), np.array(mirrored)


def _kept(path: Path) -> Views | None:
    data = read_sealed(path) if path.exists() else None
    if data is None:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Views(arrays["features"], arrays["logits"])


def _made(path: Path, views: Sequence[Views]) -> Views:
    joined = Views(*(np.stack(columns) for columns in zip(*views, strict=True)))
    buffer = io.BytesIO()
    np.savez(buffer, features=joined.features, logits=joined.logits)
    write_sealed(path, buffer.getvalue())
    return joined


def _identity(path: Path) -> list[object]:
    """Return what tells a picture from another of its name."""
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), status.st_size, status.st_mtime_ns]


def _key(checkpoints: Sequence[Checkpoint], settings: DistillationSettings, precision: torch.dtype) -> bytes:
    """Digest the networks and what the views depend on."""
    preprocessing = asdict(checkpoints[0].metadata.preprocessing)
    made = [settings.views, settings.seed, VIEW_SIDE, preprocessing, str(precision)]
    digest = hashlib.sha256(json.dumps(made).encode())
    for checkpoint in checkpoints:
        for name, value in checkpoint.backbone.state_dict().items():
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.digest()
