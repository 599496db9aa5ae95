"""Fine-tune a GoogLeNet into a region classifier: R-CNN's recipe on cached maps of the frozen stages.

    python training/finetune_det.py --data ilsvrc --init googlenet.safetensors --output runs/first

Run again after a kill, it goes on where it was.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from detector.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from detector.datasets.ilsvrc_det import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.engine import choose_device
from detector.errors import DetectorError, ParameterError
from detector.folding import fold
from detector.proposals.multibox_head import stages_read
from detector.region_network import RegionNetwork
from training.feature_cache import build_feature_cache
from training.loop import Recipe, train
from training.objective import LossWeights
from training.proposal_cache import ProposalCache


def main(
    data: Annotated[Path, typer.Option(help="The folder that holds ILSVRC/ in its official layout.")],
    init: Annotated[Path, typer.Option(help="Checkpoint of a 1000-class GoogLeNet to start from.")],
    output: Annotated[Path, typer.Option(help="Folder for the log, the state and the detector.")],
    iterations: Annotated[int, typer.Option(help="Minibatches of 32 + 96 regions.")] = Recipe.iterations,
    rate: Annotated[float, typer.Option(help="Learning rate of the trunk.")] = Recipe.rate,
    head_rate: Annotated[
        float, typer.Option(help="Rate of the classifier and the box head.")
    ] = Recipe.head_rate,
    frozen_through: Annotated[
        str,
        typer.Option(help="Last stage that keeps its weights; what it gives is cached. 'none' trains all."),
    ] = Recipe.frozen_through,
    distillation: Annotated[
        float, typer.Option(help="How much keeping the classifier's knowledge counts in the loss.")
    ] = LossWeights.distillation,
    cache: Annotated[Path | None, typer.Option(help="Folder for proposals and maps [OUTPUT/cache].")] = None,
    on_problem: Annotated[OnProblem, typer.Option(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    name: Annotated[str, typer.Option(help="Name of the detector.")] = "googlenet-ilsvrc-det200",
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = Recipe.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train a detector on DET/train and write OUTPUT/detector.safetensors."""
    recipe = Recipe(
        iterations=iterations,
        rate=rate,
        head_rate=head_rate,
        frozen_through=frozen_through,
        seed=seed,
        loss=LossWeights(distillation=distillation),
    )
    try:
        finetune(
            data,
            load_checkpoint(init),
            output,
            recipe,
            cache=cache,
            on_problem=on_problem,
            name=name,
            device=device,
        )
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error


def finetune(
    data: Path,
    init: Checkpoint,
    output: Path,
    recipe: Recipe,
    *,
    cache: Path | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    name: str = "googlenet-ilsvrc-det200",
    device: str = "auto",
) -> Path:
    """Train, and return the path of the detector's checkpoint.

    Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    started = time.monotonic()
    split = _stages_through(init, recipe.frozen_through)
    dataset = read_ilsvrc_det(data, "train", on_problem=on_problem)
    for problem in dataset.problems:
        tqdm.write(f"{problem.image_id}: {problem.kind}: {problem.message}")
    records = [record for record in dataset.records if len(record.boxes)]
    if not records:
        raise ParameterError(f"{data}: no picture of DET/train has an object to learn from")
    output.mkdir(parents=True, exist_ok=True)
    cache = cache or output / "cache"
    short_side = int(np.median([min(record.width, record.height) for record in records]))
    preprocessing = dataclasses.replace(init.metadata.preprocessing, short_side=short_side)
    proposals = ProposalCache(cache / "proposals", init, preprocessing, device=device)
    proposals.prepare(records)
    maps = build_feature_cache(
        cache / "maps",
        init,
        split,
        records,
        proposals,
        recipe.sampling,
        preprocessing=preprocessing,
        background_label=len(dataset.class_ids),
        seed=recipe.seed,
        device=device,
    )
    torch.manual_seed(recipe.seed)  # the box head's first weights
    start = fold(init, own_rows=True)
    assert isinstance(start.network, RegionNetwork)
    averaged = train(start.network, split, maps, output, recipe, choose_device(device))
    start.network.load_state_dict({**start.network.state_dict(), **averaged})
    training = {
        "init": init.metadata.name,
        "data": "ILSVRC DET/train",
        "pictures": len(records),
        "boxes": sum(len(record.boxes) for record in records),
        "regions": len(maps.labels),
        **dataclasses.asdict(recipe),
    }
    # A MultiBox head reads the trunk: it is still good if what it reads kept its weights.
    multibox = init.multibox
    if multibox is not None and stages_read(init.backbone.features, multibox.spec.stages) > split:
        multibox = None
    if multibox is not None and "multibox" in init.metadata.training:
        training["multibox"] = init.metadata.training["multibox"]
    path = output / "detector.safetensors"
    metadata = dataclasses.replace(
        start.metadata,
        preprocessing=preprocessing,
        name=name,
        multibox=multibox.spec if multibox is not None else None,
        training=training,
        licence=f"{init.metadata.licence}; ImageNet's terms: non-commercial research",
        source=f"{init.metadata.name} ({init.metadata.source}), fine-tuned on ILSVRC DET/train",
    )
    save_checkpoint(path, Checkpoint(start.network.cpu().eval(), metadata, multibox))
    print(
        f"\n{training['pictures']} pictures, {training['boxes']} objects, {training['regions']} regions, "
        f"{recipe.iterations} iterations in {(time.monotonic() - started) / 60:.1f} minutes\n"
        f"log       {output / 'log.jsonl'}\n"
        f"detector  {path} ({path.stat().st_size / 2**20:.1f} MiB)\n"
        f"next      python training/evaluate_det.py --data {data} --weights {path}"
    )
    return path


def _stages_through(init: Checkpoint, name: str) -> int:
    """How many stages are frozen."""
    names = [stage for stage, _ in init.backbone.features.named_children()]
    if name == "none":
        return 0
    if name not in names:
        raise ParameterError(
            f"--frozen-through {name!r} is no stage; use 'none' or one of {', '.join(names)}"
        )
    return names.index(name) + 1


if __name__ == "__main__":
    typer.run(main)
