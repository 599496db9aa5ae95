"""Ask the service in this container whether it is ready, at the port that its variables say.

What an option says, ``--port`` or ``--platforms``, is not seen here.
"""

import os
import urllib.request

from api.frontend.platforms.names import PlatformName, platform_port

names = os.environ.get("DETECTOR_PLATFORMS", "").lower().split(",")
platforms = tuple(PlatformName(name.strip()) for name in names if name.strip())
port = os.environ.get("DETECTOR_PORT") or platform_port(platforms, os.environ) or 8000
urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready")
