"""Settings of the service, read from the environment: ``DETECTOR_PORT=9000`` and so on."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from detector.images import Limits
from detector.proposals import Profile


def _paths(value: object) -> object:
    """The paths that a colon parts, as the environment holds them."""
    if isinstance(value, Path):
        return (value,)
    return value.split(os.pathsep) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that may differ between two installations of the service."""

    model_config = SettingsConfigDict(env_prefix="DETECTOR_", env_ignore_empty=True)

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 for a free one."""
    weights: Annotated[tuple[Path, ...] | None, NoDecode, BeforeValidator(_paths)] = None
    """A checkpoint, or several that make an ensemble, with a colon between them as in PATH; the shipped
    weights if not given."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    profile: Profile | None = None
    """Where to look if a request does not say: ``fast``, ``balanced``, ``paper`` or ``search``. Left out, it
    is ``balanced`` if the weights have a MultiBox head."""
    max_proposals: PositiveInt | None = None
    """Most regions of a picture that the network looks at, whatever the profile: fewer are faster, and miss
    more. Left out, each profile has its own number."""
    max_bytes: PositiveInt = Limits().max_bytes
    """Most bytes of a picture."""
    max_pixels: PositiveInt = Limits().max_pixels
    """Most pixels of a picture."""
    threads: NonNegativeInt = 0
    """CPU threads of the network; 0 leaves their number to torch."""
    decode_threads: PositiveInt = min(4, os.cpu_count() or 1)
    """How many pictures are decoded at once; one of 50 megapixels takes 300 MB meanwhile."""
    drain_seconds: NonNegativeInt = 30
    """How long SIGTERM waits for requests under way."""

    @property
    def limits(self) -> Limits:
        """How large a picture may be."""
        return Limits(self.max_bytes, self.max_pixels)
