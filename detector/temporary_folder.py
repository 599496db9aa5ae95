"""Where no folder for temporary files takes one: full, read-only or not there."""

import os
import tempfile


def set_fallback_temporary_folder() -> None:
    """Let Python name a temporary folder where it finds none that takes a file.

    Importing PyTorch asks for the name and ends in FileNotFoundError otherwise, though nothing is written
    there. Whoever does write gets the error of writing, which names the folder.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.environ.get("TMPDIR") or "/tmp"
