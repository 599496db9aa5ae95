"""The two routes that take images: from a caller's images and parameters to a call, and from its reply to
answers, one or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from detector.client.attempts import Attempts
from detector.client.errors import RefusedError
from detector.client.exchange import Call, Reply, read_reply
from detector.client.image_upload import is_several, read_upload
from detector.client.parameters import ClassifyParameters, DetectParameters, query_of
from detector.client.replies import (
    ClassifyReply,
    DetectReply,
    ErrorDetail,
    ManyClassifyReply,
    ManyReply,
    RefusedImage,
)
from detector.errors import ParameterError

One = TypeVar("One")
One_co = TypeVar("One_co", covariant=True)

_IMAGE_CODES = ("empty", "unsupported_format", "too_many_bytes", "too_many_pixels", "truncated", "unreadable")
"""What is wrong with an image and not with the request (the codes of ImageError)."""


class _Many(Protocol[One_co]):
    """The reply to several images."""

    @property
    def results(self) -> Sequence[One_co | RefusedImage]: ...


@dataclass(frozen=True)
class ImageEndpoint(Generic[One]):
    """A route, the TypedDict of its parameters, and its replies to one image and to several."""

    path: str
    parameters: type
    one: type[One]
    many: type[_Many[One]]

    def call(
        self,
        images: Any,
        parameters: Mapping[str, Any],
        *,
        output: str | None = None,
        accept: str = "application/json",
    ) -> Call:
        """Return the call for an image or several. Their files are read, arrays are encoded.

        ``output`` is sent as ``format``, ``accept`` as the header.

        Raises ParameterError, ImageError or OSError.
        """
        query = query_of(parameters, self.parameters) | ({"format": output} if output else {})
        sources = images if is_several(images) else [images]
        encoding = parameters.get("encoding")
        uploads = [read_upload(source, encoding) for source in sources]
        return Call("POST", self.path, query, uploads, accept)

    def drawing(self, image: Any, parameters: Mapping[str, Any], media_type: str) -> Call:
        """Return the call for one image, drawn. Raises as :meth:`call`."""
        if media_type not in ("image/png", "image/jpeg"):
            raise ParameterError(f"media_type must be 'image/png' or 'image/jpeg', got {media_type!r}")
        return self.call([image], parameters, output="image", accept=media_type)

    def answer(self, reply: Reply, attempts: Attempts) -> One:
        """Return the answer to one image."""
        return read_reply(self.one, reply, attempts)

    def answers(self, call: Call, reply: Reply, attempts: Attempts) -> list[One | RefusedImage]:
        """Return the answers to several images, in their order."""
        # A form of one image is answered as one image.
        if len(call.uploads) == 1:
            return [self.answer(reply, attempts)]
        return list(read_reply(self.many, reply, attempts).results)

    def refusal(self, call: Call, error: RefusedError) -> list[One | RefusedImage]:
        """Return the refusal of the only image of a list as the entry that it would be among several.

        Raises ``error`` where it is about the request, or about several images.
        """
        if len(call.uploads) != 1 or error.code not in _IMAGE_CODES:
            raise error
        return [RefusedImage(call.uploads[0].name, ErrorDetail(error.code, error.message), "error")]


DETECT = ImageEndpoint("/detect", DetectParameters, DetectReply, ManyReply)
CLASSIFY = ImageEndpoint("/classify", ClassifyParameters, ClassifyReply, ManyClassifyReply)
