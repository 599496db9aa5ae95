"""The weights that ship with the package."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "googlenet-ilsvrc-det200.safetensors"
