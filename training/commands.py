"""The commands ``detector train``, ``evaluate`` and ``check``: doors to the scripts of this folder.

The command ``detector`` finds them through the entry points in pyproject.toml. It loads this module whenever
it prints its help, so nothing is imported here that takes time.
"""

from collections.abc import Mapping, Sequence

from detector.cli.entry import Command, needs_extra, run_commands

_TRAIN = {
    "": Command("training.finetune_det:main", "Train a detector of your own on labelled pictures."),
    "multibox": Command("training.train_multibox:main", "Train a MultiBox head on a checkpoint's trunk."),
    "location": Command("training.train_location:main", "Train the head that moves boxes onto objects."),
    "classifier": Command("training.pretrain_cls:main", "Train GoogLeNet to classify pictures."),
    "distil": Command("training.distil_classifier:main", "Give a detector a classifier of whole pictures."),
    "pseudo-label": Command("training.pseudo_label:main", "Find boxes in pictures whose class is known."),
}
_EVALUATE = {
    "": Command("training.evaluate_det:main", "Measure detectors on a labelled data set."),
    "classifier": Command("training.evaluate_cls:main", "Measure classifiers by top-1 and top-5 error."),
    "proposals": Command("training.evaluate_proposals:main", "Measure what proposal methods cover."),
}
_CHECK = {"": Command("training.check_data:main", "Find what is wrong with a data set.")}


def train(arguments: Sequence[str]) -> int:
    """Train a detector of your own; train multibox, location, classifier, distil, pseudo-label."""
    return _run("detector train", _TRAIN, arguments)


def evaluate(arguments: Sequence[str]) -> int:
    """Measure detectors on a labelled data set; evaluate classifier, evaluate proposals."""
    return _run("detector evaluate", _EVALUATE, arguments)


def check(arguments: Sequence[str]) -> int:
    """Find everything that is wrong with a data set."""
    return _run("detector check", _CHECK, arguments)


def _run(prog: str, commands: Mapping[str, Command], arguments: Sequence[str]) -> int:
    with needs_extra("training", prog):
        run_commands(prog, commands, arguments)
    return 0
