"""Fine-tune a GoogLeNet into a region classifier: R-CNN's recipe on cached maps of the frozen stages.

    python training/finetune_det.py --data ilsvrc --init googlenet.safetensors --output runs/first

Run again after a kill, it goes on where it was.
"""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from detector.checkpoints import load_checkpoint
from detector.classes import ilsvrc_det
from detector.datasets.ilsvrc_det import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.errors import DetectorError
from training.finetuning import finetune
from training.objective import LossWeights
from training.recipe import Recipe


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
        dataset = read_ilsvrc_det(data, "train", on_problem=on_problem)
        for problem in dataset.problems:
            tqdm.write(f"{problem.image_id}: {problem.kind}: {problem.message}")
        path = finetune(
            dataset,
            load_checkpoint(init),
            ilsvrc_det(),
            output,
            recipe,
            cache=cache or output / "cache",
            name=name,
            data_name="ILSVRC DET/train",
            device=device,
        )
        print(f"next  python training/evaluate_det.py --data {data} --weights {path}")
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    typer.run(main)
