"""Labels with boxes for pictures of which only the class is known (self-training).

    python training/pseudo_label.py --data pictures --output labelled
    python training/pseudo_label.py --data pictures --list classes.txt --output labelled --score 0.6
    python training/finetune_det.py --data mine --also labelled

There are far more pictures with a class than with boxes: folders named after what they show, lists of labels.
Where the class is known, the detector's own best box of that class is a label, if the detector is sure of it.
Pictures for which it is not are left out. docs/training.md says which of the boxes tend to be wrong.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script
from detector.cli.network_options import Device, EngineName, PrecisionName, ProfileName
from detector.datasets.problems import OnProblem, ProblemLog, left_out
from detector.errors import DatasetError, ImageError, ParameterError
from detector.inference.detector import Detector
from detector.inference.executor import Executor
from detector.inference.loading import load_detector
from detector.inference.streaming import stream
from detector.io.atomic_write import check_writable
from detector.io.output_paths import check_apart
from detector.io.readable_files import why_absent
from detector.options import Engine, Precision
from detector.pretrained import SHIPPED
from detector.structures.classes import ClassList
from training.self_training.classified_pictures import ClassifiedPicture, read_classified
from training.self_training.found_boxes import FLOOR, FoundBoxes, FoundFile, file_digest, find_boxes
from training.self_training.partial_labels import ANNOTATIONS, LabelledPicture, write_partial_labels
from training.trainer.command_errors import one_line_errors
from training.trainer.run_folder import check_folder_apart, run_folder

SURE = 0.5
"""Score from which most best boxes are right: below it many are beside their object."""

FOUND = "found.jsonl"


def main(
    data: Annotated[Path, arg(help="Folder of the pictures; without --list a sub-folder is a class.")],
    output: Annotated[Path, arg(help="Folder for the labels and links to the pictures, in COCO's layout.")],
    list: Annotated[
        Path | None, arg(help="Text file: a picture's path in the folder, a tab and its class a line.")
    ] = None,
    weights: Annotated[Path, arg(help="Checkpoint of the detector that finds the boxes.")] = SHIPPED,
    score: Annotated[
        float, at_least(FLOOR, float), arg(help="Least score of a picture's best box for it to be a label.")
    ] = SURE,
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    profile: ProfileName = None,
    device: Device = "auto",
    engine: EngineName = Engine.AUTO,
    precision: PrecisionName = Precision.AUTO,
) -> None:
    """Find the boxes of each picture's class, and write those that the detector is sure of as a data set.

    Run again after a kill, it goes on where it was; run again with another --score, it looks at no picture
    twice.
    """
    with one_line_errors():
        if score > 1:
            raise ParameterError(f"--score must lie in {FLOOR}..1, got {score}")
        detector = load_detector(weights, engine=engine, device=device, precision=precision, profile=profile)
        check_apart([output / FOUND, output / ANNOTATIONS], [weights, list])
        check_folder_apart(output, [data])
        for path in (output / FOUND, output / ANNOTATIONS):
            check_writable(path)
        log = ProblemLog(on_problem)
        pictures = read_classified(data, list, detector.classes, log)
        with run_folder(output):
            finder = {
                "weights": file_digest(weights),
                "profile": detector.profile,
                "engine": detector.ensemble.engine,
                "precision": detector.ensemble.precision,
            }
            file = FoundFile(output / FOUND, finder, detector.classes)
            found = _found_in(pictures, detector, file, log)
            labelled = [
                label
                for picture, boxes in found
                if (label := LabelledPicture.of(picture, boxes, score)) is not None
            ]
            for problem in log.problems:
                print(problem)
            if not labelled:
                raise DatasetError(
                    f"in none of {len(found)} pictures a box of its class has the score {score}: give a "
                    "lower --score, or weights that know these classes better"
                )
            write_partial_labels(output, labelled, detector.classes)
        _report(found, labelled, left_out(log.problems), detector.classes, output)


def _found_in(
    pictures: Sequence[ClassifiedPicture], detector: Detector, file: FoundFile, log: ProblemLog
) -> list[tuple[ClassifiedPicture, FoundBoxes]]:
    """Return what is found in each picture that can be read, now (several at a time) or in an earlier run."""
    beside = detector.for_streams

    def look(picture: ClassifiedPicture, executor: Executor) -> FoundBoxes:
        return find_boxes(beside, picture, executor=executor)

    earlier = [(picture, file.get(picture)) for picture in pictures]
    new = (picture for picture, boxes in earlier if boxes is None)
    found = []
    with closing(stream(new, look, streams=detector.ensemble.streams)) as results:  # type: ignore[type-var]
        for picture, boxes in tqdm(earlier, desc=detector.name, unit="picture", disable=None):
            if boxes is None:
                _, looked = next(results)  # they come in the order of the pictures
                if isinstance(looked, FileNotFoundError):
                    log.report(picture.name, "missing_image", f"{picture.path} {why_absent(picture.path)}")
                    continue
                if isinstance(looked, ImageError):
                    log.report(picture.name, "unreadable_image", str(looked))
                    continue
                if isinstance(looked, Exception):
                    raise looked
                file.add(picture, boxes := looked)
            found.append((picture, boxes))
    return found


def _report(
    found: Sequence[tuple[ClassifiedPicture, FoundBoxes]],
    labelled: Sequence[LabelledPicture],
    lost: int,
    classes: ClassList,
    output: Path,
) -> None:
    """Print how many pictures of each class got a box, and what to do with them."""
    pictures = Counter(picture.label for picture, _ in found)
    with_box = Counter(image.picture.label for image in labelled)
    width = max(len("class"), *(len(classes.names[label]) for label in pictures))
    print(f"{'class':<{width}}  pictures  with a box")
    for label in sorted(pictures):
        print(f"{classes.names[label]:<{width}}  {pictures[label]:>8,}  {with_box[label]:>10,}")
    share = len(labelled) / len(found)
    print(f"\n{len(labelled):,} of {len(found):,} pictures ({share:.1%}) got a box, ", end="")
    print(f"{sum(len(image.sure) for image in labelled):,} boxes in all", end="")
    print(f"; {lost:,} pictures are left out for problems" if lost else "")
    print(f"{output / ANNOTATIONS}\nlearn from them too:  detector train --data MINE --also {output}")


if __name__ == "__main__":
    run_script(main)
