"""schemathesis against a running service: does it keep what its OpenAPI document promises?

    python benchmarks/fuzz.py --minutes 10          # or: make fuzz

Starts the service and gives schemathesis its /openapi.json, with pictures to send (fuzz_hooks.py). Ends with
schemathesis' status: 0 if every reply was as documented and no request broke the service.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from loadtest.processes import ROOT, service
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def main(
    minutes: float = 5.0,
    examples: Annotated[int, at_least(1), arg(help="Most for each operation.")] = 500,
    seed: int = 0,
    device: str = "auto",
    max_proposals: Annotated[int, arg(help="Regions of each picture.")] = 1,
) -> None:
    """Run schemathesis, its report on the terminal."""
    hooks = {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}"}
    with service({"device": device, "profile": "fast", "max_proposals": max_proposals}) as server:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://127.0.0.1:{server.port}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            "--phases=examples,coverage,fuzzing",
            f"--max-examples={examples}",
            f"--max-time={max(1, round(minutes * 60))}",
            f"--seed={seed}",
            "--request-timeout=100",
            "--continue-on-failure",
            "--no-color",
        ]
        done = subprocess.run(command, env={**os.environ, **hooks}, cwd=ROOT, check=False)
        if server.get("/health/ready").status_code != 200:
            raise SystemExit("error: the service is not ready any more")
    sys.exit(done.returncode)


if __name__ == "__main__":
    run_script(main)
