"""All that makes a detector find what it finds, as a value that may be sent to other processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from detector.errors import CheckpointError
from detector.inference.detector import Detector, Finder
from detector.inference.loading import load_detector
from detector.models.weights import read_metadata
from detector.options import MAX_DETECTIONS, SCORE_THRESHOLD, Engine, Precision, Profile, ScoreThreshold
from detector.pretrained import SHIPPED
from detector.structures.classes import ClassList


@dataclass(frozen=True)
class DetectorSettings:
    """Which weights, run how, and what is asked of them: a process that gets them loads the same detector.

    Nothing is loaded before :meth:`load`; a loaded Detector cannot be sent. Fields are parameters of
    :func:`detector.inference.loading.load_detector` and :meth:`detector.inference.detector.Detector.detect`.
    """

    weights: tuple[Path, ...] = (SHIPPED,)
    engine: Engine | str = Engine.AUTO
    device: str = "auto"
    precision: Precision | str = Precision.AUTO
    profile: Profile | str | None = None
    max_proposals: int | None = None
    score_threshold: ScoreThreshold = SCORE_THRESHOLD
    max_detections: int = MAX_DETECTIONS
    classes: str | tuple[str, ...] | None = None
    tile: int | None = None

    def load(self) -> Detector:
        """Load the detector. Raises CheckpointError and ParameterError as ``load_detector`` does."""
        return load_detector(
            self.weights,
            engine=self.engine,
            device=self.device,
            precision=self.precision,
            profile=self.profile,
            max_proposals=self.max_proposals,
        )

    def finder(self, detector: Detector, *, explain: int = 0) -> Finder:
        """Return what finds in an image, by a detector of these settings, what they ask for, and explains the
        best ``explain`` of it.

        Raises ParameterError for a setting that the detector cannot serve.
        """
        return detector.finder(
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
            classes=self.classes,
            tile=self.tile,
            explain=explain,
        )

    def class_list(self) -> ClassList:
        """Return the classes that are told apart, without loading a network.

        Raises CheckpointError for weights that detect nothing.
        """
        metadata = read_metadata(self.weights[0])
        if metadata.detection is None:
            raise CheckpointError(f"{metadata.name} classifies whole pictures and cannot detect")
        return metadata.detection

    def weights_digests(self) -> list[str]:
        """Return the SHA-256 of each file of weights: equal digests are the same weights, wherever they lie.

        Raises OSError for a file that cannot be read.
        """
        return [_digest(path) for path in self.weights]

    def check_weights(self, digests: Sequence[str]) -> None:
        """Check, in another process or on another machine, that the files are those of ``digests``.

        Raises CheckpointError that names the first that is not.
        """
        for path, expected in zip(self.weights, digests, strict=True):
            if _digest(path) != expected:
                raise CheckpointError(
                    f"{path} holds other weights here than where the job was started: put the same file there"
                )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
