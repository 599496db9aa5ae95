"""Give a detector a classifier of whole pictures, taught by the network that it was trained from.

    python training/distil_classifier.py --weights runs/mine/detector.safetensors --pictures pictures

Training a trunk for detection costs what it knew of whole pictures. Pictures alone, without labels, bring
most of it back: a linear classifier learns to say of them what the teacher says. Detection stays as it is.
Run again after a kill, it goes on where it was. docs/training.md says what it brings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from detector.cli.command_line import run_script
from detector.errors import DatasetError
from detector.io.atomic_write import check_writable
from detector.io.image_paths import images_below
from detector.io.output_paths import check_apart
from detector.models.checkpoint import load_checkpoint, save_checkpoint
from detector.pretrained import SHIPPED
from training.classification.distillation import DistillationSettings, distil_classifier
from training.trainer.command_errors import one_line_errors
from training.trainer.excluded_images import Exclusion
from training.trainer.run_folder import DETECTOR, check_folder_apart, run_folder


def main(
    weights: Annotated[Path, arg(help="Checkpoint of the detector.")],
    pictures: Annotated[
        Sequence[Path], UseAppendAction, arg(help="Folder of pictures to learn from; give several.")
    ],
    output: Annotated[Path, arg(help="Folder for the detector and the features.")],
    teacher: Annotated[Path, arg(help="Checkpoint that knows the classes.")] = SHIPPED,
    exclude: Annotated[
        Sequence[Path], UseAppendAction, arg(help="List file of pictures to leave out, as in ImageSets.")
    ] = (),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    settings: Annotated[DistillationSettings, OmitArgPrefixes] = DistillationSettings(),  # noqa: B008 (frozen)
) -> None:
    """Teach the classifier and write OUTPUT/detector.safetensors."""
    with one_line_errors():
        check_apart([output / DETECTOR], [weights, teacher, *(exclude or [])])
        check_folder_apart(output, list(pictures))
        check_writable(output / DETECTOR)
        excluded = Exclusion(exclude or [])
        images = [path for folder in pictures for path in images_below(folder) if path.stem not in excluded]
        for line in excluded.unused():
            print(line)
        if not images:
            raise DatasetError(f"no pictures in {', '.join(map(str, pictures))}")
        start = load_checkpoint(weights)
        with run_folder(output):
            result = distil_classifier(
                start, load_checkpoint(teacher), images, output / "cache", settings, device=device
            )
            save_checkpoint(output / DETECTOR, result)
        tqdm.write(f"detector  {output / DETECTOR}")


if __name__ == "__main__":
    run_script(main)
