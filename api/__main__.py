"""``python -P -m api``: the same as ``detector serve``."""

import sys

from api.command import serve

if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], name="python -m api"))
