"""`detector bench`: every engine and precision in a table, and a service for each."""

from pathlib import Path

import numpy as np
import pytest

from detector.cli.bench import bench
from detector.cli.bench_requests import ServiceError, requests_a_second, service_options
from detector.evaluation.run_record import RunRecord
from detector.options import Profile

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.exhaustive
def test_every_engine_and_precision_is_measured(
    multibox_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    bench([multibox_path], images=1, profile=Profile.FAST, rounds=1, seconds=0, json_file=file)
    (table,) = RunRecord.read(file).tables
    assert table.headings()[:6] == [
        "engine",
        "precision",
        "crops/s",
        "pictures/s",
        "requests/s",
        "difference",
    ]
    assert {("torch", "float32"), ("openvino", "float32"), ("onnxruntime", "float32")} <= {
        row[:2] for row in table.rows
    }
    assert [row[6] for row in table.rows].count("chosen by auto") == 1
    for _, precision, crops, pictures, requests, difference, _ in table.rows:
        assert isinstance(crops, float)
        assert isinstance(pictures, float)
        assert isinstance(difference, float)
        assert crops > 0
        assert pictures > 0
        assert requests is None, "no service was asked"
        assert precision != "float32" or difference < 1e-4
    assert table.text() in capsys.readouterr().out


@pytest.mark.exhaustive
def test_a_service_is_asked_by_clients(multibox_path: Path) -> None:
    options = service_options(
        [multibox_path], engine="openvino", precision="float32", device="cpu", profile="fast"
    )
    assert requests_a_second(options, [PICTURE], clients=2, seconds=1) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--weights", "/no/such.safetensors"], "did not start.*no/such", id="no such weights"),
        pytest.param(["--no-such-option"], "did not start.*no-such-option", id="no such option"),
        pytest.param(
            ["--max-pixels", "100"],
            "status 413.*too_many_pixels",
            id="pictures are refused",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_a_service_that_fails_is_told(options: list[str], said: str) -> None:
    with pytest.raises(ServiceError, match=f"(?s){said}"):
        requests_a_second(options, [PICTURE], clients=1, seconds=1)
