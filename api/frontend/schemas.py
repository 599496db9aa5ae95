"""What goes in by the query and what comes out as JSON, as /docs shows it.

Every JSON reply but an error says by its ``kind`` what it is, so that the reply to one image, the list for
several and a COCO data set cannot be mistaken.
"""

from enum import IntEnum, StrEnum
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from api.protocol.messages import DetectTask
from detector.options import (
    AUTO,
    MAX_DETECTIONS,
    MAX_EXPLAINED,
    MIN_TILE,
    SCORE_THRESHOLD,
    Profile,
    ScoreThreshold,
)


class Crops(IntEnum):
    """How many parts of a picture are classified and averaged."""

    ONE = 1
    TEN = 10
    ALL = 144


class Format(StrEnum):
    """How detections come back."""

    JSON = "json"
    COCO = "coco"
    IMAGE = "image"


_ModelName = Annotated[
    str | None, Field(description="name of a model, as `GET /models` lists them; left out, the first")
]


_Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


_SCORE: TypeAdapter[float] = TypeAdapter(_Score)


def _score_or_auto(value: object) -> ScoreThreshold:
    """Return a score in 0..1 or ``auto``; pydantic's own union would name its branches in messages."""
    if value == AUTO:
        return "auto"
    try:
        return _SCORE.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise PydanticCustomError("score_or_auto", "{what}, or 'auto'", {"what": first["msg"]}) from error


class DetectOptions(BaseModel):
    """What is asked of a detection, wherever it is asked."""

    model_config = ConfigDict(extra="forbid")

    score_threshold: Annotated[
        ScoreThreshold,
        PlainValidator(_score_or_auto, json_schema_input_type=_Score | Literal["auto"]),
        Field(
            description="leave out detections with a lower score; `auto`: for each class the score from "
            "which on as large a share is right as was wanted when the weights were measured "
            "(`precision_wanted` of `GET /models`)"
        ),
    ] = SCORE_THRESHOLD
    max_detections: Annotated[int, Field(ge=1, le=1000, description="at most so many, the best")] = (
        MAX_DETECTIONS
    )
    profile: Annotated[
        Profile | None,
        Field(
            description="where to look: `fast` is what MultiBox sees at a glance, `balanced` adds selective "
            "search, `thorough` also looks for small things, `paper` takes all boxes and warps each as "
            "in 2014, `search` is selective search alone; left out, what the service is set to"
        ),
    ] = None
    tile: Annotated[
        int | None,
        Field(
            ge=MIN_TILE,
            le=10_000,
            description="look at larger pictures also in overlapping squares of so many pixels a side, which "
            "finds smaller objects and takes as many times as long as there are squares (640 is a start)",
        ),
    ] = None
    explain: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_EXPLAINED,
            description="explain the best so many objects (`explanation`): the factors whose product is the "
            "score, and a class activation map of the region; in JSON, and not together with `tile`",
        ),
    ] = 0
    classes: Annotated[
        str | None,
        Field(
            description="only objects of these classes: names or ids, with commas between them, whatever "
            "their case; `GET /models/{name}` lists them",
            examples=["dog, domestic cat"],
        ),
    ] = None
    model: _ModelName = None

    @field_validator("explain")
    @classmethod
    def _not_in_tiles(cls, explain: int, info: ValidationInfo) -> int:
        if explain and info.data.get("tile") is not None:
            raise PydanticCustomError(
                "explain_and_tile", "what tiles show cannot be explained: leave one out"
            )
        return explain

    def task(self, form: str = "json", name: str | None = None) -> DetectTask:
        """Return the task of an image of that name, whose answer comes in that form."""
        return DetectTask(
            self.score_threshold,
            self.max_detections,
            self.profile,
            self.classes,
            form,
            name,
            self.tile,
            self.explain,
        )


class DetectQuery(DetectOptions):
    """Query of ``POST /detect``."""

    format: Annotated[
        Format,
        Field(
            description="`json`; `coco`, a data set of one picture as pycocotools loads it; `image`, the "
            "picture with the objects drawn on it, PNG unless `Accept` asks for image/jpeg (one picture only)"
        ),
    ] = Format.JSON

    @field_validator("format")
    @classmethod
    def _explained_in_json(cls, form: Format, info: ValidationInfo) -> Format:
        if form is not Format.JSON and info.data.get("explain"):
            raise PydanticCustomError(
                "explain_and_format", "explanations come as json alone: leave out explain"
            )
        return form


class ClassifyQuery(BaseModel):
    """Query of ``POST /classify``."""

    model_config = ConfigDict(extra="forbid")

    top: Annotated[int, Field(ge=1, le=1000, description="how many classes, or all there are")] = 5
    crops: Annotated[
        Crops,
        Field(
            description="views of the picture whose probabilities are averaged: 1 is the whole of it, 10 the "
            "corners and the centre of its central square, 144 four scales, three squares and six crops of "
            "each, both mirrored too; 10 take ten times as long as 1"
        ),
    ] = Crops.ONE
    model: _ModelName = None


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Box(_Reply):
    """Pixels of the upright picture, origin top left; ``xmax`` and ``ymax`` lie just outside the box."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class _Classed(_Reply):
    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["wnid"]}, {"required": ["class_id"]}]}
    )

    label: str
    wnid: str | SkipJsonSchema[None] = Field(
        None,
        description="the WordNet id of the class, if it has one, as those of ILSVRC do",
        pattern="^n[0-9]{8}$",
    )
    class_id: str | SkipJsonSchema[None] = Field(None, description="the id of any other class")
    score: float = Field(ge=0, le=1)


class ScoreFactor(_Reply):
    """One factor of a score: its contribution is its value to its power."""

    name: str = Field(description="`probability`, `predicted_iou`, `objectness` or `context`")
    value: float = Field(ge=0, le=1)
    power: float
    contribution: float


class Explanation(_Reply):
    """Why an object has its score."""

    factors: list[ScoreFactor] = Field(description="the product of their contributions is the score")
    region: tuple[float, float, float, float] = Field(
        description="where the map lies: x1, y1, x2, y2 in pixels; it may reach beyond the picture"
    )
    activation: list[list[float]] = Field(
        description="class activation map: what each place of the region adds to the class's logit; rows "
        "from the top, usually 7 of 7"
    )


class DetectedObject(_Classed):
    """One object."""

    box: Box
    explanation: Explanation | SkipJsonSchema[None] = Field(
        None, description="of the best `explain` objects, where it is asked for"
    )


class LikelyClass(_Classed):
    """One class and how likely it is."""


class ClassifyTiming(_Reply):
    """Milliseconds; ``queue`` is all waiting for a turn, ``total`` the whole request, its body included."""

    queue: float
    decode: float
    classify: float
    total: float


class DetectTiming(_Reply):
    """Milliseconds; ``queue`` is all waiting for a turn, ``trunk`` what the network runs once over the whole
    image (nothing where every region is warped), ``total`` the whole request, its body included."""

    queue: float
    decode: float
    trunk: float
    proposals: float
    regions: float
    total: float


class _ImageReply(_Reply):
    image: str | None = Field(
        description="file name in the multipart form, or last part of the address; null for other bodies"
    )
    width: int = Field(description="of the picture, upright")
    height: int
    frames: int = Field(ge=1, description="1 for a still; of an animation the first frame is looked at")
    model: str


class DetectReply(_ImageReply):
    """Objects, best first."""

    kind: Literal["detections"]
    detections: list[DetectedObject]
    timing_ms: DetectTiming


class ClassifyReply(_ImageReply):
    """Classes, likeliest first."""

    kind: Literal["classes"]
    classes: list[LikelyClass]
    timing_ms: ClassifyTiming


class CocoImage(_Reply):
    """The picture, as COCO's data sets list it."""

    id: int
    file_name: str
    width: int
    height: int


class CocoCategory(_Reply):
    """A class that was found."""

    id: int = Field(description="its label + 1")
    name: str


class CocoAnnotation(_Reply):
    """One object."""

    id: int
    image_id: int
    category_id: int
    category_name: str
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height in pixels")
    area: float
    score: float = Field(ge=0, le=1)
    iscrowd: int


class CocoReply(_ImageReply):
    """Objects in the manner of COCO (cocodataset.org/#format-data): with ``format=coco``."""

    kind: Literal["coco"]
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]
    timing_ms: DetectTiming


class ErrorDetail(_Reply):
    """What is wrong: ``code`` is stable and meant for programs, ``message`` for people."""

    code: str
    message: str


class ErrorReply(_Reply):
    """Every error looks like this."""

    error: ErrorDetail


class RefusedImage(ErrorReply):
    """What is wrong with one of several pictures."""

    kind: Literal["error"]
    image: str | None


class ManyReply(_Reply):
    """Replies to several pictures in their order: to a form of several files, or to ``images``."""

    kind: Literal["results"]
    results: list[Annotated[DetectReply | CocoReply | RefusedImage, Field(discriminator="kind")]]


class ManyClassifyReply(_Reply):
    """Replies to several pictures in their order: to a form of several files, or to ``images``."""

    kind: Literal["results"]
    results: list[Annotated[ClassifyReply | RefusedImage, Field(discriminator="kind")]]


class Health(_Reply):
    """``live`` or ``ready``."""

    status: str
