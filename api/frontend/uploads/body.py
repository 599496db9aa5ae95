"""What the body of a request may be: its types, its limits, and what its headers promise."""

from dataclasses import dataclass, replace

from fastapi import Request

from api.protocol.errors import ApiError

RAW_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
    "image/tiff",
    "application/octet-stream",
)
"""What a picture sent as the body may be called. Any other ``image/...`` will do: the content decides."""
FORM_TYPE = "multipart/form-data"
JSON_TYPE = "application/json"
TENSORS_TYPE = "binary tensors"
"""What a body is counted as that holds pictures one behind the other: it has no media type of its own."""
FIELD = "file"
FIELDS = (FIELD, "files", "image", "images")
"""The form fields that hold pictures, each also with ``[]`` behind it, as PHP and some libraries write it."""

# What says nothing of the content: no type at all, and what curl's --data-binary states unless it is told.
_UNSTATED = ("", "binary/octet-stream", "application/x-www-form-urlencoded")
_TAKEN_APART = (FORM_TYPE, JSON_TYPE, TENSORS_TYPE)
_FRAMING = 16 * 1024  # braces and keys of JSON; a form's boundary after the last part
_PART_FRAMING = 5 * 1024  # the boundary and the headers of one part


@dataclass(frozen=True)
class Upload:
    """One picture of a request: its bytes, and the name that a form or an address gave it.

    ``refusal``, where there is one, is what the picture is refused for before anybody looks at its bytes,
    which are empty then: one of several pictures that is too large costs its neighbours nothing.
    """

    data: bytes
    name: str | None = None
    refusal: ApiError | None = None


@dataclass(frozen=True)
class Uploads:
    """The images of a request, at least one. ``many``: whether the reply is a list, one entry an image."""

    items: tuple[Upload, ...]
    many: bool

    def without_data(self) -> "Uploads":
        """Return the same without the bytes of the images."""
        return replace(self, items=tuple(replace(upload, data=b"") for upload in self.items))


@dataclass(frozen=True)
class UploadLimits:
    """How much a request may bring: bytes of one picture, pictures of one request, and the memory that its
    body and pictures take together, if that is not less than of one picture."""

    max_bytes: int
    max_pictures: int
    max_held: int = 2**63

    def held(self, media_type: str, size: int) -> int:
        """Return how much memory so many bytes of a body take: a form's and JSON's pictures are taken out of
        it while it is there."""
        return 2 * size if media_type in _TAKEN_APART else size

    def body_bytes(self, media_type: str, images: int) -> int:
        """Return the most bytes of a body of that type with so many images (a raw body is always one)."""
        one, several = self._body_bytes(media_type, 1), self._body_bytes(media_type, images)
        return max(one, min(several, self.max_held // self.held(media_type, 1)))

    def _body_bytes(self, media_type: str, images: int) -> int:
        if media_type in (FORM_TYPE, TENSORS_TYPE):
            return images * (self.max_bytes + _PART_FRAMING) + _FRAMING
        if media_type == JSON_TYPE:  # base64, in lines of 76 characters at the worst
            return images * (self.max_bytes * 4 // 3 * 39 // 38) + _FRAMING
        return self.max_bytes


@dataclass(frozen=True)
class ExpectedBody:
    """What the headers of a request promise: the type of its body, without parameters and in lower case, and
    its length, None if that is not stated."""

    media_type: str
    length: int | None
    limits: UploadLimits

    @property
    def most(self) -> int:
        """Bytes that are read at most: without a stated length those of one image."""
        return self.limits.body_bytes(self.media_type, self.limits.max_pictures if self.length else 1)

    @property
    def held(self) -> int:
        """Bytes of memory that the request takes at most."""
        return self.limits.held(self.media_type, self.length or self.most)

    def too_large(self) -> ApiError:
        """Return the refusal of a body that is larger than ``most``."""
        if self.media_type not in _TAKEN_APART:
            return too_many_bytes(self.limits)
        if self.length is None:
            return ApiError(
                413,
                "too_many_bytes",
                f"The body has more than the {self.limits.max_bytes:,} bytes of one picture and states no "
                "length. Send a Content-Length, or one picture a request.",
            )
        return ApiError(
            413,
            "too_many_bytes",
            f"The body has more than the {self.most:,} bytes allowed. Send fewer or smaller pictures a "
            "request, or one as the body itself.",
        )


def check_headers(request: Request, limits: UploadLimits) -> ExpectedBody:
    """Return what the headers of a request promise; refuse what cannot be images before anything is read.

    Raises ApiError: 400 ``empty`` without a body, 415 for a content type or a compression that is not read,
    413 for a stated length over the limit.
    """
    if _length(request) == 0:
        raise ApiError(
            400,
            "empty",
            f"The request has no body. Send the picture as the body or as the form field {FIELD!r}.",
        )
    media_type = stated_type(request)
    if not (media_type.startswith("image/") or media_type in (*RAW_TYPES, *_UNSTATED, FORM_TYPE, JSON_TYPE)):
        raise ApiError(
            415,
            "unsupported_media_type",
            f"The Content-Type is {media_type[:80]}. Send a picture as image/jpeg, image/png or the like, or "
            f"as application/octet-stream, {FORM_TYPE} with the field {FIELD!r}, or {JSON_TYPE}.",
        )
    return expect_body(request, limits, media_type)


def expect_body(request: Request, limits: UploadLimits, media_type: str) -> ExpectedBody:
    """Return what the headers of a request promise whose body is of that type, whatever it states.

    Raises ApiError: 400 ``empty`` without a body, 415 for a compression, 413 for a stated length over the
    limit.
    """
    length = _length(request)
    if length == 0:
        raise ApiError(400, "empty", "The request has no body. Send what is to be looked at in it.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ApiError(
            415,
            "unsupported_media_type",
            f"The Content-Encoding is {encoding[:80]}. Send the body as it is: it is compressed already.",
        )
    expected = ExpectedBody(media_type, length, limits)
    if length is not None and length > expected.most:
        raise expected.too_large()
    return expected


def stated_type(request: Request) -> str:
    """Return the media type that a request states, without parameters and in lower case; empty for none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _length(request: Request) -> int | None:
    """Return the length of the body as stated, 0 where there is none, None where it is not known."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and len(stated) < 20:
        return int(stated)
    return None if "transfer-encoding" in request.headers else 0


def bounded_upload(data: bytes, limits: UploadLimits, name: str | None = None) -> Upload:
    """Return an image, refused if it has more bytes than one may have."""
    if len(data) > limits.max_bytes:
        return Upload(b"", name, too_many_bytes(limits))
    return Upload(data, name)


def too_many_bytes(limits: UploadLimits) -> ApiError:
    """Return the refusal of one image for its size."""
    return ApiError(
        413,
        "too_many_bytes",
        f"The picture has more than the {limits.max_bytes:,} bytes allowed. Scale it down or compress it "
        "more.",
    )


def too_many_images(limits: UploadLimits) -> ApiError:
    """Return the refusal of a request for the number of its images."""
    return ApiError(
        413,
        "too_many_pictures",
        f"The request has more than the {limits.max_pictures} pictures allowed. Send several requests.",
    )
