"""Local response normalisation: ours against torch's own, at GoogLeNet's two sizes, in one run.

    python benchmarks/lrn.py

Prints the median milliseconds of a batch of 16. torch's own has no bfloat16 kernel on a CPU.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.models.lrn import LocalResponseNorm

RUNS = 15


def main() -> None:
    """Measure both sizes, both precisions."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{device}, {torch.get_num_threads()} threads, batch of 16, median of {RUNS} runs")
    print(f"{'channels':>8}  {'precision':<9}  {'ours ms':>8}  {'torch ms':>8}  {'ratio':>6}")
    for channels in (64, 192):
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(16, channels, 56, 56, device=device) * 100
            layout = x.to(dtype, memory_format=torch.channels_last)
            norm = LocalResponseNorm(channels).to(device, dtype)
            ours = _median(lambda x=layout, norm=norm: norm(x), device)
            # A CPU's peer has to stay in float32; what it would cost to convert is left out in its favour.
            peer = x if device == "cpu" else layout
            theirs = _median(lambda x=peer: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0), device)
            name = str(dtype).removeprefix("torch.")
            print(f"{channels:8d}  {name:<9}  {ours:8.2f}  {theirs:8.2f}  {theirs / ours:6.1f}")


@torch.inference_mode()
def _median(run: Callable[[], Tensor], device: str) -> float:
    seconds = []
    for _ in range(RUNS + 3):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:]) * 1000


if __name__ == "__main__":
    main()
