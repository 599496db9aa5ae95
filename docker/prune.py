"""Delete what serving never opens from the environment that runs this: ``python prune.py cpu|gpu``.

The image is a quarter smaller for it. What has to go is told in two ways:

- files that are for building or testing, by their names;
- of NVIDIA's libraries, on CPU, every one that a network's run does not map into memory. torch's builds for
  CUDA are linked with cuBLAS, cuFFT, cuSPARSE, cuSPARSELt, NCCL, NVSHMEM, NVRTC and CUPTI, and do not start
  without them, GPU or not. cuDNN's parts and the rest are opened when a GPU asks for them.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

BUILDING_AND_TESTING = [
    "*/tests",
    "*/*/tests",
    "*/*/*/tests",
    "*/*/*/*/tests",
    "nvidia/**/*.a",
    "nvidia/**/*.bc",
    "nvidia/**/include",
    "torch/bin/protoc*",
    "torch/include",
    "torch/share",
]
NEVER_ON_ONE_GPU = [
    "nvidia/**/libcusolverMg.so*",  # solves over several GPUs
    "nvidia/**/libnvperf_*.so*",  # a profiler's
    "nvidia/**/nvshmem_bootstrap_*.so*",  # between processes
    "nvidia/**/nvshmem_transport_*.so*",
]


def main(target: str, packages: Path) -> None:
    """Delete from ``packages``, a site-packages folder, what the target (cpu or gpu) does without."""
    before = _megabytes(packages)
    patterns = BUILDING_AND_TESTING + (NEVER_ON_ONE_GPU if target == "gpu" else [])
    goners = [path for pattern in patterns for path in packages.glob(pattern)]
    if target == "cpu":
        libraries = [path for path in packages.glob("nvidia/**/*.so*") if path.is_file()]
        needed = _mapped_by_a_run()
        goners += [path for path in libraries if path.resolve() not in needed]
    for path in goners:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it may have gone with its folder
    print(f"{before} MB of packages before, {_megabytes(packages)} MB after")


def _mapped_by_a_run() -> set[Path]:
    import torch
    from torchvision.ops import nms

    torch.nn.Conv2d(3, 8, 3)(torch.rand(2, 3, 32, 32)).softmax(1)
    nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.5]), 0.5)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]) for line in lines if len(line.split(maxsplit=5)) == 6}


def _megabytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000


if __name__ == "__main__":
    main(sys.argv[1], Path(sysconfig.get_path("purelib")))
