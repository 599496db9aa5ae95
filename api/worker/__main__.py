"""``python -m api.worker``: started by the front, never by hand."""

import sys

from api.worker.process import main

if __name__ == "__main__":
    sys.exit(main())
