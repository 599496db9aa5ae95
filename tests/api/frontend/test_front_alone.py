"""The front serves HTTP and nothing else: it starts in a second, and is small."""

import subprocess
import sys


def test_the_front_does_without_the_network_s_library() -> None:
    heavy = ("torch", "torchvision", "numba", "cv2")
    code = f"import sys, api.app, api.server; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
