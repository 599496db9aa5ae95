"""Settings of the service, from the environment (``DETECTOR_PORT=9000``) or options of ``detector serve``.

A field's description is what ``detector serve --help`` says of it. Fields stand in the order of that help.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.frontend.auth import read_keys, split_keys
from api.frontend.platforms.names import PlatformName, VertexRoutes, platform_port
from api.protocol.messages import WorkerSettings
from detector.io.decoding import Limits
from detector.options import Engine, Precision, Profile

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")


def _paths(value: object) -> object:
    """Return the paths that colons part, as the environment holds them, or commas, as a repeated option has
    them."""
    if isinstance(value, Path):
        return (value,)
    if not isinstance(value, str):
        return value
    paths = value.replace(",", os.pathsep).split(os.pathsep)
    if not all(path.strip() for path in paths):
        raise ValueError(f"'{value}' names an empty path; write path or path{os.pathsep}path")
    return tuple(path.strip() for path in paths)


def _models(value: object) -> object:
    """Return {name: paths} of ``a=x.safetensors,b=y.safetensors:z.safetensors``."""
    if not isinstance(value, str):
        return value
    models: dict[str, object] = {}
    for entry in value.split(","):
        name, equals, paths = entry.strip().partition("=")
        if not equals or not paths:
            raise ValueError(f"'{entry}' should be name=path, or name=path{os.pathsep}path for an ensemble")
        if name in models:
            raise ValueError(f"the name '{name}' is given twice; each model needs one of its own")
        models[name] = paths
    return models


def _origins(value: object) -> object:
    """Return the origins that commas part: scheme, host and port, as a browser's ``Origin`` header has
    them."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return value
    origins = tuple(str(origin).strip().rstrip("/").lower() for origin in value)
    for origin in origins:
        if origin not in ("*", "null") and not ORIGIN.fullmatch(origin):
            raise ValueError(
                f"'{origin}' is no origin: scheme, host and port if it has one, such as https://example.org"
            )
    return origins


def _platforms(value: object) -> object:
    """Return the platforms that commas part."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return value
    names = [str(name).strip().lower() for name in value]
    for name in names:
        if name not in list(PlatformName):
            raise ValueError(f"there is no platform '{name}', but {', '.join(PlatformName)}")
    return tuple(dict.fromkeys(names))


def _origin(value: object) -> object:
    """Return the scheme, host and port of a web site."""
    if not isinstance(value, str):
        return value
    origin = value.strip().rstrip("/").lower()
    if not ORIGIN.fullmatch(origin):
        raise ValueError(f"'{value}' is no scheme and host, such as http://localhost:8080")
    return origin


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _usable_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


Paths = Annotated[tuple[Path, ...], BeforeValidator(_paths)]
Bytes = Annotated[ByteSize, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Everything that may differ between two installations of the service."""

    model_config = SettingsConfigDict(
        env_prefix="DETECTOR_", env_ignore_empty=True, hide_input_in_errors=True
    )

    platforms: Annotated[tuple[PlatformName, ...], NoDecode, BeforeValidator(_platforms)] = Field(
        (),
        description="Platforms whose interfaces are served beside our own, with commas between them: "
        "open-inference (KServe, Triton), sagemaker, vertex, label-studio.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address or name to listen on; 0.0.0.0 for all of IPv4, :: for all of IPv6 and IPv4.",
    )
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="Port to listen on; 0 for a free one. Left out with the platform sagemaker or vertex, "
        "what SAGEMAKER_BIND_TO_PORT or AIP_HTTP_PORT says, else 8080.",
    )
    max_connections: PositiveInt = Field(
        1024,
        description="Connections open at once, at most; fewer if the limit of open files says so. One more "
        "takes the place of the one that has been idle for the longest.",
    )
    max_head_bytes: Bytes = Field(
        ByteSize(32 * 1024), description="Most bytes of a request's line and headers together."
    )
    head_seconds: Seconds = Field(10, description="How long a request's head may take to come.")
    keep_alive_seconds: Seconds = Field(
        65,
        description="How long a connection is kept for the next request: longer than a proxy in front keeps "
        "its own, or requests fail now and then.",
    )
    answer_seconds: Seconds = Field(
        30,
        description="How long a client may read nothing of its answer; and for all of it, with a second more "
        "for each 256 KiB. Then its connection is cut.",
    )
    max_unread_bytes: Bytes = Field(
        ByteSize(256 * 1024 * 1024),
        description="Bytes of answers that wait to be read, at most: beyond, the connections that have "
        "waited for the longest are cut.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        (),
        description="Web sites whose pages may ask from the browser (CORS): origins such as "
        "https://example.org, with commas between them, or * for all. Left out, none but the service's own.",
    )

    weights: Annotated[Paths | None, NoDecode] = Field(
        None,
        description="Weights of the default model: a checkpoint, or several that make an ensemble, with a "
        "colon between them as in PATH. Left out, the shipped weights, unless --model names some.",
    )
    model: Annotated[dict[str, Paths], NoDecode, BeforeValidator(_models)] = Field(
        {},
        description="A further model by name, which requests choose with model=NAME. Several: the option "
        "more than once, commas in the variable. Without --weights the first one is the default model.",
    )
    device: str = Field(
        "auto",
        description="auto (a GPU if there is one), cpu, cuda or cuda:N. Several with commas, as in "
        "cuda:0,cuda:1: a worker process on each.",
    )
    engine: Engine = Field(
        Engine.AUTO,
        description="What runs the network: torch (needed for a GPU), openvino, onnxruntime, or auto: torch "
        "where there is a GPU, else the first of openvino, onnxruntime and torch that is installed.",
    )
    precision: Precision = Field(
        Precision.AUTO,
        description="float32, bfloat16, float16 (GPUs), int8 (openvino and onnxruntime, with weights that "
        "were calibrated) or auto.",
    )
    profile: Profile | None = Field(
        None,
        description="Where to look if a request does not say: fast (what MultiBox sees at a glance), "
        "balanced (that and selective search), thorough (both, for small things too), paper (all boxes of "
        "both, each warped) or search (selective search alone). Left out, balanced if the weights have a "
        "MultiBox head, else search.",
    )
    max_proposals: PositiveInt | None = Field(
        None,
        description="Most regions of a picture that the network looks at, whatever the profile: fewer are "
        "faster, and miss more. Left out, each profile has its own number.",
    )
    compile: bool = Field(
        False,
        description="Compile the network at the start: ready half a minute later or more, faster then.",
    )
    threads: NonNegativeInt = Field(
        0,
        description="CPU threads of the network, each with a batch of its own; 0: as many as there are "
        "CPUs, or as OMP_NUM_THREADS says.",
    )
    prepare_threads: PositiveInt = Field(
        min(16, _usable_cpus()),
        description="Threads of each worker that decode pictures and propose regions ahead of the network; "
        "as many as there are CPUs, up to 16. A picture of 50 megapixels takes "
        "360 to 610 MB of memory meanwhile, a WebP 800 MB.",
    )
    batch: PositiveInt | None = Field(
        None, description="Most regions that the network takes at once. Left out, chosen for the device."
    )

    max_bytes: Bytes = Field(
        ByteSize(Limits().max_bytes),
        description="Most bytes of a picture; 64MiB is understood, too.",
    )
    max_pixels: PositiveInt = Field(Limits().max_pixels, description="Most pixels of a picture.")
    max_pictures: PositiveInt = Field(16, description="Most pictures of a request.")
    timeout_seconds: Seconds = Field(
        30, description="How long a request may take that does not say so itself (X-Timeout-Ms)."
    )
    max_timeout_seconds: Seconds = Field(300, description="Most that a request may ask for.")
    max_pending_requests: PositiveInt = Field(
        512,
        description="Requests admitted and not yet answered, at most; others are to come later.",
    )
    max_pending_bytes: Bytes = Field(
        ByteSize(512 * 1024 * 1024),
        description="Bytes held for them, at most, of which one request may have half, or one picture.",
    )

    allow_urls: bool = Field(
        False,
        description="Let requests name a picture by its address: the service fetches it, from public "
        "addresses only.",
    )
    label_studio_url: Annotated[str | None, BeforeValidator(_origin)] = Field(
        None,
        description="The Label Studio whose pictures the platform label-studio may fetch, wherever it is: "
        "http://localhost:8080. Left out, none are fetched from where it keeps them.",
    )
    label_studio_api_key: SecretStr | None = Field(
        None, description="Key with which to fetch them: a legacy token, or a personal access token."
    )
    url_timeout_seconds: Seconds = Field(10, description="How long such a fetch may take.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split_keys)] = Field(
        (),
        description="Keys, with commas between them, of which a request must show one. Everybody on the "
        "machine can read options: prefer the variable or --api-keys-file. Left out, nobody needs one.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File of such keys, one a line; empty lines and those with # in front do not count.",
    )

    log_format: Annotated[Literal["auto", "json", "text"], BeforeValidator(_lower)] = Field(
        "auto", description="json (an object a line), text, or auto: text on a terminal, else json."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="The least that is logged: debug, info, warning or error."
    )
    otlp_endpoint: Annotated[str | None, Field(pattern="^https?://")] = Field(
        None,
        description="Collector of OpenTelemetry that traces are sent to by OTLP over HTTP, such as "
        "http://localhost:4318. Left out, what OTEL_EXPORTER_OTLP_ENDPOINT says, or none are.",
    )

    stall_seconds: Seconds = Field(
        120, description="A batch that takes longer means that the worker hangs: it is replaced."
    )
    start_seconds: Seconds = Field(
        300, description="A worker that is not ready by then is ended and started again."
    )
    no_worker_seconds: Seconds = Field(
        600,
        description="After so long without any worker /health/live fails, so that whoever watches it starts "
        "the service again. More than --start-seconds.",
    )
    drain_seconds: NonNegativeInt = Field(30, description="How long SIGTERM waits for requests under way.")
    shutdown_delay_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0,
        description="After SIGTERM, how long to go on serving, no longer ready, before that: the time a load "
        "balancer takes to notice.",
    )

    @field_validator("port", mode="before")
    @classmethod
    def _not_kubernetes_own(cls, value: object) -> object:
        if isinstance(value, str) and "://" in value:
            raise ValueError(
                "holds an address, which Kubernetes sets for a Service named 'detector': rename the Service, "
                "or set enableServiceLinks: false in the pod"
            )
        return value

    @field_validator("platforms")
    @classmethod
    def _has_its_routes(cls, platforms: tuple[PlatformName, ...]) -> tuple[PlatformName, ...]:
        platform_port(platforms, os.environ)
        if PlatformName.VERTEX in platforms:
            routes = VertexRoutes.of(os.environ)
            if PlatformName.LABEL_STUDIO in platforms and routes.predict == "/predict":
                raise ValueError(
                    "vertex and label-studio would both be asked at /predict: set AIP_PREDICT_ROUTE to "
                    "another path, or leave one of them out"
                )
        return platforms

    @field_validator("model")
    @classmethod
    def _names(cls, models: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        for name in models:
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(
                    f"the name '{name}' should be up to 64 letters, digits, dots, dashes or underscores"
                )
        if "default" in models and info.data.get("weights") is not None:
            raise ValueError("'default' is the name of what DETECTOR_WEIGHTS gives; choose another one")
        return models

    @field_validator("device")
    @classmethod
    def _device_names(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if not DEVICE.fullmatch(name):
                raise ValueError(
                    f"'{name}' is no device: auto, cpu, cuda or cuda:N, or several with commas, such as "
                    "cuda:0,cuda:1"
                )
        if len(names) > 1 and (len(set(names)) < len(names) or {"auto", "cuda"} & set(names)):
            raise ValueError("several devices have to be different ones, named exactly: cuda:0,cuda:1")
        return ",".join(names)

    @field_validator("max_timeout_seconds")
    @classmethod
    def _no_less_than_the_default(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("timeout_seconds", 0):
            raise ValueError("is less than DETECTOR_TIMEOUT_SECONDS, the time of requests that ask for none")
        return value

    @field_validator("max_pending_bytes")
    @classmethod
    def _holds_a_picture(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("max_bytes", 0):
            raise ValueError("is less than DETECTOR_MAX_BYTES: the largest picture could never be admitted")
        return value

    @field_validator("api_keys_file")
    @classmethod
    def _holds_a_key(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_keys(path)
        return path

    @property
    def listening_port(self) -> int:
        """The port to listen on: the one that was set, or else where a platform asks."""
        if "port" in self.model_fields_set:
            return self.port
        return platform_port(self.platforms, os.environ) or self.port

    @property
    def limits(self) -> Limits:
        """How large a picture may be."""
        return Limits(self.max_bytes, self.max_pixels)

    @property
    def models(self) -> dict[str, tuple[Path, ...] | None]:
        """Each model's weights by its name, None for the shipped ones; the default model comes first."""
        if self.weights is None and self.model:
            return dict(self.model)
        return {"default": self.weights, **self.model}

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, a worker process on each."""
        return tuple(self.device.split(","))

    @property
    def keys(self) -> frozenset[str]:
        """The keys of which a request must show one; none if nobody needs one. Reads the file anew."""
        given = {key.get_secret_value() for key in self.api_keys}
        return frozenset(given | (read_keys(self.api_keys_file) if self.api_keys_file else set()))

    def worker_settings(self) -> list[WorkerSettings]:
        """Return the part that each worker needs, one for each device."""
        models = {
            name: [str(path.absolute()) for path in paths] if paths is not None else None
            for name, paths in self.models.items()
        }
        return [
            WorkerSettings(
                models=models,
                device=device,
                engine=self.engine,
                precision=self.precision,
                profile=self.profile,
                max_proposals=self.max_proposals,
                compile=self.compile,
                threads=self.threads,
                prepare_threads=self.prepare_threads,
                batch=self.batch,
                max_bytes=self.max_bytes,
                max_pixels=self.max_pixels,
                log_format=self.log_format,
                log_level=self.log_level,
            )
            for device in self.devices
        ]
