"""What a worker tells of a model that it has loaded; ``GET /models/{name}`` answers it as it is."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from detector.options import Profile


class _Info(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WeightsFile(_Info):
    """The file that was loaded."""

    name: str
    bytes: int
    sha256: str


class Member(_Info):
    """One network, as its checkpoint describes itself."""

    name: str
    architecture: str
    licence: str
    source: str
    metrics: dict[str, Any] = Field(description="a measure's name and its value")
    training: dict[str, Any] = Field(description="how the weights came about")
    file: WeightsFile


class ProfileOffered(_Info):
    """A profile that the model can serve."""

    name: Profile
    max_regions: int | None = Field(description="most regions of a picture; null for all there are")
    cost: int = Field(description="what a picture takes, about, in regions that take as long")
    region_cost: int = Field(
        1, description="what each of its regions takes; one that is explained, once more"
    )


class ClassName(_Info):
    """A class: ``id`` as annotation files name it (a WordNet id for ILSVRC), ``name`` for people."""

    id: str
    name: str


class ModelBase(_Info):
    """What a model's summary and all that is known of it share."""

    name: str = Field(description="what `?model=` chooses it by")
    tasks: list[str] = Field(description="`detect`, `classify` or both")
    members: list[Member] = Field(description="one network, or those of an ensemble")
    engine: str = Field(description="what runs the network: `torch`, `openvino` or `onnxruntime`")
    precision: str = Field(description="what its trunk computes in")
    profiles: list[ProfileOffered]
    default_profile: Profile | None = Field(description="null for a model that does not detect")
    scoring: dict[str, Any] | None = Field(description="how scores and boxes are made; null likewise")
    precision_wanted: float | None = Field(
        None, description="share that is right of what `score_threshold=auto` keeps; null: not measured"
    )
    loaded_at: str = Field(json_schema_extra={"format": "date-time"})


class ModelInfo(ModelBase):
    """A model that is loaded, with all its classes, label by label."""

    detection_classes: list[ClassName]
    classification_classes: list[ClassName]
