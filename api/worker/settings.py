"""What the front tells a worker before all else."""

from dataclasses import dataclass

from api.frontend.settings import Settings


@dataclass(frozen=True)
class WorkerSettings:
    """A part of :class:`api.frontend.settings.Settings`, for one device."""

    models: dict[str, list[str] | None]
    device: str
    profile: str | None
    max_proposals: int | None
    compile: bool
    threads: int
    prepare_threads: int
    batch: int | None
    max_bytes: int
    max_pixels: int
    log_format: str
    log_level: str


def worker_settings(settings: Settings) -> list[WorkerSettings]:
    """Those of each worker: one for each device."""
    models = {
        name: [str(path.absolute()) for path in paths] if paths is not None else None
        for name, paths in settings.models.items()
    }
    return [
        WorkerSettings(
            models=models,
            device=device,
            profile=settings.profile,
            max_proposals=settings.max_proposals,
            compile=settings.compile,
            threads=settings.threads,
            prepare_threads=settings.prepare_threads,
            batch=settings.batch,
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            log_format=settings.log_format,
            log_level=settings.log_level,
        )
        for device in settings.devices
    ]
