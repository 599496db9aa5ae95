"""The same Detector behind LitServe, in the way of its own guide: decode, batch, predict, unbatch.

    make peers
    DETECTOR_PORT=8000 python benchmarks/serving_litserve.py

Its worker collects pictures for at most ten milliseconds, or until there are ``--batch`` of them. It answers
at /detect, is healthy at /health, and has no time limit.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any

import litserve
from fastapi import Request
from serving_peers import WARM_UP, Options, reply
from tyro.conf import OmitArgPrefixes

from detector.cli.command_line import run_script
from detector.io.decoding import RGB, decode
from detector.structures.detections import Detections


class DetectorApi(litserve.LitAPI):
    """A module's own class: LitServe hands it to its worker process by name."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_batch_size=options.batch, batch_timeout=0.01, api_path="/detect")
        self._options = options

    def setup(self, device: str) -> None:
        self.detector = self._options.detector()
        self.detector.detect([decode(WARM_UP.read_bytes())])

    def decode_request(self, request: Request) -> RGB:  # so annotated, it is the form that comes
        form: Mapping[str, Any] = request
        return decode(form["file"].file.read())

    def batch(self, inputs: list[RGB]) -> list[RGB]:
        return inputs  # pictures of different sizes do not stack

    def predict(self, x: list[RGB]) -> list[Detections]:
        return self.detector.detect(x)

    def unbatch(self, output: list[Detections]) -> list[Detections]:
        return output

    def encode_response(self, output: Detections) -> dict[str, Any]:
        return reply(self.detector, output)


def main(
    options: Annotated[Options, OmitArgPrefixes] = Options(),  # noqa: B008 (cannot be changed)
) -> None:
    """Serve until the end."""
    server = litserve.LitServer(
        DetectorApi(options),
        accelerator="cpu" if options.device == "cpu" else "auto",
        devices=1,
        timeout=False,
    )
    port = int(os.environ.get("DETECTOR_PORT", "8000"))
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    run_script(main)
