"""The services that are fuzzed: those of the other tests of the service."""

from tests.api.conftest import client, fast_client, image, pixels, ready, serving

__all__ = ["client", "fast_client", "image", "pixels", "ready", "serving"]
