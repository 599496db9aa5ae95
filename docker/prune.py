"""Delete what serving never opens from the environment that runs this: ``python prune.py cpu|gpu``.

The image is a quarter smaller for it: what is for building or testing goes, and what of OpenVINO and of
NVIDIA's libraries this service never asks for."""

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
    "*.dist-info/RECORD",  # what an uninstallation would delete
    "*.dist-info/sboms",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.h",
    "**/*.hpp",
    "**/*.c",
    "**/*.cc",
    "numba/cuda",  # compiles for GPUs
    "yaml/_yaml.*.so",  # PyYAML has the same in Python, which is what reads data.yaml
    "numpy/distutils",
    "numpy/f2py",
    "numpy/_core/_*_tests.*.so",
    "numpy/_core/_simd.*.so",  # for numpy's own tests
    "torch/bin/protoc*",
    "torch/include",
    "torch/share",
    "onnx/backend",
    "onnx/reference",
    "PIL/_avif*",
    "pillow.libs/libavif*",  # a format that the service does not take
    "onnx/**/*.proto*",
    "openvino/libs/libopenvino_intel_gpu_plugin.so",  # runs networks on other devices than a CPU
    "openvino/libs/libopenvino_intel_npu_*",
    "openvino/libs/libopenvino_auto_*plugin.so",
    "openvino/libs/libopenvino_hetero_plugin.so",
    "openvino/libs/libopenvino_c.so*",  # for programs in C
    "openvino/libs/cache.json",
    "openvino/libs/libopenvino_*paddle_frontend.so*",  # reads other kinds of models than ONNX
    "openvino/libs/libopenvino_*pytorch_frontend.so*",
    "openvino/libs/libopenvino_*tensorflow*_frontend.so*",
    "openvino/libs/libopenvino_*jax_frontend.so*",
    "openvino/libs/libopenvino_*gguf_frontend.so*",
    "openvino/frontend/jax",
    "openvino/frontend/paddle",
    "openvino/frontend/pytorch",
    "openvino/frontend/tensorflow",
    "openvino/tools",  # converts models
    "openvino/include",
    "openvino/cmake",
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
    for path in goners:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it may have gone with its folder
    print(f"{before} MB of packages before, {_megabytes(packages)} MB after")


def _megabytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000


if __name__ == "__main__":
    main(sys.argv[1], Path(sysconfig.get_path("purelib")))
