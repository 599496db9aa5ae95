"""From chunks of pictures to finished shards, in one process."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from detector.bulk.plan import Chunk
from detector.bulk.shards import Shard, ShardBuilder
from detector.bulk.sources import Picture
from detector.errors import DetectorError, reason
from detector.inference.executor import Executor
from detector.inference.quarantine import Quarantine
from detector.inference.settings import DetectorSettings
from detector.inference.streaming import AHEAD, stream

Found = tuple[int, int, list[dict[str, Any]]]
"""Of a picture: width, height, detections."""


class ChunkDetector:
    """A loaded detector, and all that is asked of it."""

    def __init__(
        self, settings: DetectorSettings, *, read_ahead: int = AHEAD, quarantine: Quarantine | None = None
    ) -> None:
        """Load the detector; ``read_ahead`` pictures are read beyond those that the network is busy with.

        ``quarantine`` notes which pictures are under way; without one nothing is noted.

        Raises CheckpointError and ParameterError for settings that cannot be served.
        """
        detector = settings.load().for_streams
        self._find = settings.finder(detector)
        self._streams = detector.ensemble.streams
        self._read_ahead = read_ahead
        self._quarantine = quarantine or Quarantine(None)

    def shards(
        self, chunks: Iterable[Chunk], job: str, on_picture: Callable[[], object] | None = None
    ) -> Iterator[Shard]:
        """Yield the shard of each chunk, in order; the pictures of all chunks are one stream.

        ``job`` is the job's digest; ``on_picture`` is called for each picture that is done. A picture that
        cannot be read is a row with its error. Raises DatasetError for a container that cannot be read.
        """

        def pictures() -> Iterator[tuple[Chunk, Picture]]:
            return ((chunk, picture) for chunk in chunks for picture in chunk.pictures())

        builder: ShardBuilder | None = None
        results = stream(pictures(), self._look, streams=self._streams, ahead=self._read_ahead)
        with closing(results):  # type: ignore[type-var]
            for (chunk, picture), found in results:
                builder = builder or ShardBuilder(chunk.number, job)
                if isinstance(found, DetectorError | OSError):
                    builder.add_error(picture.name, reason(found))
                elif isinstance(found, Exception):
                    raise found
                else:
                    builder.add(picture.name, *found)
                if on_picture is not None:
                    on_picture()
                if len(builder) == len(chunk):
                    yield builder.finish()
                    builder = None

    def _look(self, item: tuple[Chunk, Picture], executor: Executor) -> Found:
        _, picture = item

        def look() -> Found:
            pixels = picture.read().pixels
            height, width = pixels.shape[:2]
            return width, height, self._find(pixels, executor=executor).as_dicts()

        return self._quarantine.look(picture.name, look)
