"""Measuring classifiers: networks alone and as ensembles, by several numbers of crops, in one pass.

Letters for shapes: M members, C classes.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.datasets.annotated_image import LabelledImage
from detector.errors import ParameterError
from detector.evaluation.classification import ClassificationFigures, label_ranks, rank_error
from detector.inference.classifier import Classifier
from detector.inference.loading import load_classifier
from detector.io.decoding import load
from detector.io.terminal_text import printable_path
from detector.models.weights import read_metadata

Networks = tuple[Path, ...]
"""The weights files whose networks are averaged: one, or those of an ensemble."""


def read_networks(weights: Sequence[str | Path], *, ensemble: bool = False) -> list[Networks]:
    """Return the networks to measure, each once: a file, or those of an ensemble (``path:path``).

    With ``ensemble`` these are the first of all files, the first two, and so on up to all. Raises
    ParameterError for an empty path, a file twice in an ensemble, and an ensemble of one.
    """
    groups = [tuple(map(Path, str(text).split(os.pathsep))) for text in weights]
    for text, group in zip(weights, groups, strict=True):
        if not all(part.strip() for part in str(text).split(os.pathsep)):
            raise ParameterError(f"{text!s} names an empty path; write path or path{os.pathsep}path")
        if len(set(group)) < len(group):
            raise ParameterError(f"{text!s} names a file twice: each network of an ensemble counts once")
    if ensemble:
        files = list(dict.fromkeys(path for group in groups for path in group))
        if len(files) < 2:
            raise ParameterError("--ensemble averages several weights: give --weights again for each")
        groups = [tuple(files[:size]) for size in range(1, len(files) + 1)]
    return list(dict.fromkeys(groups))


@dataclass(frozen=True, eq=False)
class _Pass:
    """Networks that run together: what they have in common runs once."""

    files: Networks
    precision: str
    classifier: Classifier


@dataclass(frozen=True, eq=False)
class Row:
    """What a line of the table measures: some networks of a pass, averaged, over so many crops."""

    name: str
    networks: Networks
    crops: int
    source: _Pass

    @property
    def members(self) -> list[int]:
        """Which of the pass' networks they are."""
        return [self.source.files.index(path) for path in self.networks]

    @property
    def runs_alone(self) -> bool:
        """Whether the pass has no other networks, so that its time is theirs."""
        return len(self.networks) == len(self.source.files)


class ClassifierEvaluation:
    """Classifiers that are measured together; a network that stands in several rows runs once."""

    def __init__(
        self,
        networks: Sequence[Networks],
        crops: Sequence[int] = (1,),
        *,
        precisions: Sequence[str] = ("auto",),
        device: str = "auto",
        engine: str = "auto",
    ) -> None:
        """Load the weights. Each of the networks, at least one, is measured in every precision, over every
        number of crops; what stands there twice counts once.

        Raises the errors of :func:`detector.inference.loading.load_classifier`, and ParameterError for
        networks of other classes than the first's.
        """
        titles = _titles(networks)
        self.rows: list[Row] = []
        passes = [
            _Pass(files, precision, load_classifier(files, engine=engine, device=device, precision=precision))
            for precision in dict.fromkeys(precisions)
            for files in _joined(networks)
        ]
        first = passes[0].classifier
        for further in (run.classifier for run in passes[1:]):
            if further.classes.ids != first.classes.ids:
                raise ParameterError(
                    f"{further.name} names other classes than {first.name}: measure them one by one"
                )
        self.class_ids = first.classes.ids
        for files in networks:
            sources = [run for run in passes if set(files) <= set(run.files)]
            self.rows += [
                Row(titles[files], files, count, source)
                for source in sources
                for count in dict.fromkeys(crops)
            ]

    def run(self, images: Sequence[LabelledImage]) -> list[ClassificationFigures]:
        """Classify every image, at least one; return the figures of each row.

        An image is decoded once, reduced once for each set of networks that run together, and its crops go
        through each network once. Raises ImageError or OSError for an image that cannot be read,
        ParameterError for networks that say NaN.
        """
        work: dict[tuple[_Pass, int], list[int]] = {}  # the numbers of the rows that one run serves
        for number, row in enumerate(self.rows):
            work.setdefault((row.source, row.crops), []).append(number)
        ranks = np.zeros((len(self.rows), len(images)), np.int64)
        seconds = dict.fromkeys(work, 0.0)
        for index, image in enumerate(tqdm(images, desc="classifying", unit="picture", disable=None)):
            pixels, label = load(image.path), np.array([image.label])
            views = {source: source.classifier.view(pixels) for source, _ in work}
            for (source, crops), numbers in work.items():
                start = perf_counter()
                each = source.classifier.member_probabilities(views[source], crops=crops)  # M x C
                seconds[source, crops] += perf_counter() - start
                for number in numbers:
                    scores = each[self.rows[number].members].mean(axis=0, keepdims=True)  # 1 x C
                    ranks[number, index] = label_ranks(scores, label)[0]
        return [
            _figures(row, of_row, seconds[row.source, row.crops] / len(images))
            for row, of_row in zip(self.rows, ranks, strict=True)
        ]


def _figures(row: Row, ranks: NDArray[np.int64], seconds: float) -> ClassificationFigures:
    error = rank_error(ranks)
    return ClassificationFigures(
        row.name,
        len(row.networks),
        row.crops,
        error[1],
        error[5],
        row.source.precision,
        seconds if row.runs_alone else None,
    )


def _joined(networks: Sequence[Networks]) -> list[Networks]:
    """Join those that have a file in common: a file is then in one of them alone."""
    groups: list[dict[Path, None]] = []
    for files in networks:
        joined = dict.fromkeys(files)
        apart = []
        for group in groups:
            if group.keys() & joined.keys():
                joined = group | joined
            else:
                apart.append(group)
        groups = [*apart, joined]
    return [tuple(group) for group in groups]


def _titles(networks: Sequence[Networks]) -> dict[Networks, str]:
    """Return what a table calls them: a network's name; with their files where others are called so too."""
    titles = {}
    for files in networks:
        names = [read_metadata(path).name for path in files]
        more = ", ..." if len(set(names)) > 1 else ""
        titles[files] = names[0] if len(names) == 1 else f"ensemble of {len(names)}: {names[0]}{more}"
    times = Counter(titles.values())
    return {
        files: f"{title} ({os.pathsep.join(map(printable_path, files))})" if times[title] > 1 else title
        for files, title in titles.items()
    }
