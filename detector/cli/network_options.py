"""Options that the commands which detect and classify have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least
from detector.options import MIN_TILE, Engine, Precision, Profile, ScoreThreshold

Weights = Annotated[
    Sequence[Path],
    UseAppendAction,
    arg(
        help="Checkpoint to use instead of the shipped one; given several times, an ensemble: the average of "
        "all."
    ),
]
LeastScore = Annotated[
    ScoreThreshold,
    arg(
        metavar="0..1|auto",
        help="Leave out less certain objects. auto: below the threshold of each class, as measured for these "
        "weights.",
    ),
]
MaxDetections = Annotated[int, arg(help="Objects a picture, at most.")]
Classes = Annotated[str | None, arg(help="Only these classes: names or ids, with commas between them.")]
ProfileName = Annotated[
    Profile | None,
    arg(
        help="Where to look. fast: what MultiBox sees at a glance; balanced: that and selective search; "
        "thorough: both, for small things too; paper: all boxes of both, each warped, as in 2014; "
        "search: selective search alone [balanced, if the weights allow]."
    ),
]
MaxProposals = Annotated[
    int | None, at_least(1), arg(help="Regions a picture, at most [the profile's own number].")
]
Tile = Annotated[
    int | None,
    at_least(MIN_TILE),
    arg(help="Also look at overlapping squares of so many pixels of larger pictures: finds small objects."),
]
Explain = Annotated[
    int,
    at_least(0),
    arg(
        help="Explain the best so many objects of each picture: the factors whose product is the score, and "
        "where in its region the evidence lies."
    ),
]
Device = Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")]
EngineName = Annotated[Engine, arg(help="What runs the network; torch is needed for a GPU.")]
PrecisionName = Annotated[Precision, arg(help="What it computes in; int8 needs calibrated weights.")]
