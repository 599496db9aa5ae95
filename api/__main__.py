"""``python -P -m api``: the same as ``detector serve``."""

import sys

from api.frontend.command import serve
from detector.cli.standard_streams import lasting_streams

if __name__ == "__main__":
    with lasting_streams():
        sys.exit(serve(sys.argv[1:], name="python -m api"))
