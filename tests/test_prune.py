"""docker/prune.py, which makes the images small, on a folder of empty files."""

import runpy
from pathlib import Path

import pytest

PRUNE = Path(__file__).resolve().parents[1] / "docker/prune.py"

FILES = {
    "torch/lib/libtorch_cpu.so": "both",
    "torch/testing/__init__.py": "both",  # torch imports it
    "torch/include/ATen/ATen.h": "none",
    "torch/bin/protoc": "none",
    "numpy/_core/tests/test_api.py": "none",
    "numpy/testing/__init__.py": "both",
    "numpy/testing/__init__.pyi": "none",
    "numpy/_core/_multiarray_umath.cpython-312-x86_64-linux-gnu.so": "both",
    "numpy/_core/_simd.cpython-312-x86_64-linux-gnu.so": "none",
    "numpy/_core/_umath_tests.cpython-312-x86_64-linux-gnu.so": "none",
    "numpy/f2py/crackfortran.py": "none",
    "numba/_helperlib.c": "none",
    "uvloop/loop.pyx": "none",
    "yaml/__init__.py": "both",
    "yaml/_yaml.cpython-312-x86_64-linux-gnu.so": "none",
    "numba-0.68.1.dist-info/METADATA": "both",
    "numba-0.68.1.dist-info/RECORD": "none",
    "openvino/libs/libopenvino_c.so.2641": "none",
    "numba/core/dispatcher.py": "both",
    "numba/cuda/api.py": "none",
    "nvidia/cu13/include/cublas.h": "none",
    "nvidia/cu13/lib/libcudart_static.a": "none",
    "openvino/libs/libopenvino.so.2641": "both",
    "openvino/libs/libopenvino_intel_cpu_plugin.so": "both",
    "openvino/libs/libopenvino_onnx_frontend.so.2641": "both",
    "openvino/libs/libopenvino_intel_gpu_plugin.so": "none",
    "openvino/libs/libopenvino_auto_batch_plugin.so": "none",
    "openvino/tools/ovc/convert.py": "none",
    "openvino/libs/libopenvino_tensorflow_lite_frontend.so.2641": "none",
    "nvidia/cu13/lib/libcublas.so.13": "both",
    "nvidia/cu13/lib/libcusolver.so.12": "both",
    "nvidia/cu13/lib/libcusolverMg.so.12": "cpu",
    "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9": "both",
    "nvidia/nvshmem/lib/libnvshmem_host.so.3": "both",
    "nvidia/nvshmem/lib/libnvshmem_device_sm_90.bc": "none",
    "nvidia/nvshmem/lib/nvshmem_transport_ibrc.so.6": "cpu",
}
"""Which targets keep what: NVIDIA's libraries are not installed for a CPU."""


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_what_stays(target: str, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    runpy.run_path(str(PRUNE))["main"](target, tmp_path)
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {name for name, images in FILES.items() if images in ("both", target)}
