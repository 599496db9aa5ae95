"""nginx with this project's configuration (docker/nginx), in front of servers on loopback."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from loadtest.processes import ROOT, end_process, free_port

CONFIGURATION = ROOT / "docker" / "nginx" / "detector.conf"
_LISTEN = "listen 8080;"

_MAIN = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream detector {{
        zone detector 256k;
        least_conn;
{servers}
        keepalive 64;
        keepalive_timeout 60s;
    }}
    include detector.conf;
}}
"""


def installed() -> bool:
    """Return whether nginx is."""
    return shutil.which("nginx") is not None


@contextmanager
def balanced(ports: Sequence[int]) -> Iterator[int]:
    """Serve the servers at these ports of loopback behind nginx, and give nginx's port; ended afterwards.

    Raises SystemExit if nginx does not start.
    """
    port = free_port()
    servers = "\n".join(
        f"        server 127.0.0.1:{replica} max_fails=1 fail_timeout=2s;" for replica in ports
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nginx.conf").write_text(_MAIN.format(servers=servers))
        text = CONFIGURATION.read_text()
        assert text.count(_LISTEN) == 1
        (folder / "detector.conf").write_text(text.replace(_LISTEN, f"listen 127.0.0.1:{port};"))
        command = ["nginx", "-p", name, "-c", str(folder / "nginx.conf"), "-e", "error.log"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            _wait(process, port, folder)
            yield port
        finally:
            end_process(process)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    """Return once nginx answers; /metrics is its own answer."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=1, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    process.kill()
    said = process.communicate()[1].decode(errors="replace")
    log = folder / "error.log"
    raise SystemExit(f"error: nginx did not start. It said:\n{said}{log.read_text() if log.exists() else ''}")
