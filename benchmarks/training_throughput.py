"""Training's throughput: this project's GoogLeNet against torchvision's `googlenet`, in the same steps.

    python benchmarks/training_throughput.py --batch 32 --runs 5

Prints the median pictures (or regions) a second of forward, backward and the step of SGD; the two networks
take turns, so that what else the machine does meets both. torchvision's has batch normalisation where the
paper's has none, no response normalisation, and 3x3 for 5x5 convolutions. The last line is what one process
reads, cuts and distorts of JPEG pictures of 500 x 375 pixels.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models import GoogLeNet as TorchvisionNetwork

from detector.cli.command_line import run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Cell, Column, Table, counted
from detector.evaluation.run_record import Data
from detector.inference.torch_engine import choose_device, choose_precision
from detector.models.backbone import Backbone
from detector.models.convert_bvlc import PREPROCESSING
from detector.models.googlenet import GoogLeNet
from detector.models.region_network import RegionNetwork
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet
from training.classification.dataloader import Augmentation, ImageBatch, TrainingBatches
from training.classification.dataset import ImageList
from training.classification.task import ClassificationTask, PretrainRecipe
from training.rcnn.losses import LossWeights, Targets
from training.rcnn.training_module import RegionTrainingModule
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages

CLASSES = 200
BENCHMARK = Benchmark(
    "training_throughput",
    "Training, beside torchvision's `googlenet`",
    "How many pictures or regions a second this project's GoogLeNet and torchvision's `googlenet` learn "
    "from, in the same steps, and how many pictures one process reads and distorts meanwhile.",
)


def main(batch: int = 32, runs: int = 5, device: str = "auto", saving: SavingOptions = NOT_SAVED) -> None:
    """Measure training's throughput, ours against torchvision's googlenet."""
    chosen = choose_device(device)
    precision = str(choose_precision("auto", chosen)).removeprefix("torch.")
    cases: list[tuple[str, Callable[[bool], Callable[[], object]]]] = [
        ("pretraining, pictures/s", lambda peer: pretraining(peer, batch, chosen)),
        ("fine-tuning all stages, regions/s", lambda peer: finetuning(peer, "", batch, chosen)),
        ("fine-tuning after pool4, regions/s", lambda peer: finetuning(peer, "pool4", batch, chosen)),
    ]
    threads = counted(torch.get_num_threads(), "thread")
    setting = f"{threads}, {precision}, minibatches of {batch}, medians of {counted(runs, 'run')}"
    with saving.recording(
        BENCHMARK, Data("pictures that the script makes"), setting, device=str(chosen)
    ) as run:
        rows: list[list[Cell]] = []
        for name, make in cases:
            rows.append([name, *_rates([make(False), make(True)], batch, runs, chosen)])
            print(f"{name}: done", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rates = _rates([reading(Path(folder), batch)], batch, runs, torch.device("cpu"))
        rows.append(["reading by one process, pictures/s", *rates, None])
        run.show(
            Table.of("", [Column("what"), Column("ours", "", ".1f"), Column("torchvision", "", ".1f")], rows)
        )


def pretraining(peer: bool, batch: int, device: torch.device) -> Callable[[], object]:
    """Make a step of training the 1000-class classifier with its side classifiers."""
    network: nn.Module
    if peer:
        network = TorchvisionNetwork(aux_logits=True, transform_input=False, init_weights=False)
    else:
        network = GoogLeNet(aux=True)
    network.to(device).to(memory_format=torch.channels_last).train()
    task = ClassificationTask(
        network,
        ImageList(Path(), ((f"{number}.jpg", 0) for number in range(batch))),  # never read
        PREPROCESSING,
        PretrainRecipe(batch=batch),
        broken=BrokenImages(Path("broken.txt"), limit=0),
        device=device,
        world=ProcessGroup(),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9)
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8, generator=random)
    piece = ImageBatch(pixels, torch.randint(0, 1000, (batch,), generator=random), {})

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        task.losses(network, piece).total.backward()
        optimizer.step()

    return run


def finetuning(peer: bool, frozen_through: str, batch: int, device: torch.device) -> Callable[[], object]:
    """Make a step of training the region classifier and the location head on maps of the frozen stages."""
    backbone: Backbone = TorchvisionGoogLeNet(CLASSES + 1) if peer else GoogLeNet(CLASSES + 1)
    stages = [name.replace("max", "") for name, _ in backbone.features.named_children()]
    frozen = stages.index(frozen_through) + 1 if frozen_through else 0
    labels = torch.arange(CLASSES + 1)
    network = RegionNetwork(backbone, labels, CLASSES, box_regression=False, location=True).to(device)
    learner = RegionTrainingModule(network, frozen, LossWeights()).to(device).train()
    torch.manual_seed(0)
    with torch.no_grad():
        maps = network.backbone.features[:frozen](torch.randn(batch, 3, 224, 224, device=device))
    targets = Targets(
        labels=torch.randint(0, CLASSES + 1, (batch,)),
        overlaps=torch.rand(batch),
        deltas=torch.randn(batch, 4) / 10,
        certain=torch.ones(batch, dtype=torch.bool),
        teacher=torch.empty(batch, 0),
    )
    targets = Targets(*(part.to(device) for part in targets))
    maps = maps.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([w for w in learner.parameters() if w.requires_grad], lr=1e-5, momentum=0.9)
    precision = choose_precision("auto", device)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        part, _ = learner(maps, targets, None, precision)
        part.total.backward()
        optimizer.step()

    return run


def reading(folder: Path, batch: int) -> Callable[[], object]:
    """Make a minibatch of training pictures, from their files."""
    random = np.random.default_rng(0)
    for number in range(batch):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=92)
    images = ImageList(folder, ((f"{number}.jpg", 0) for number in range(batch)))
    pieces = TrainingBatches(
        images, Augmentation(), size=224, batch=batch, accumulate=1, seed=0, world=ProcessGroup()
    )
    return lambda: pieces[0]


def _rates(steps: Sequence[Callable[[], object]], batch: int, runs: int, device: torch.device) -> list[float]:
    """Return how many pictures a second each makes; they take turns, and the first turn does not count."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(runs + 1):
        for step, taken in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return [batch / statistics.median(taken[1:]) for taken in seconds]


if __name__ == "__main__":
    run_script(main)
