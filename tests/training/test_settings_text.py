"""``WHAT:key=value,key=value``: what it means, and what makes no sense."""

import pytest

from detector.errors import ParameterError
from training.settings_text import split_settings


@pytest.mark.parametrize(
    ("text", "what", "settings"),
    [
        pytest.param("birds", "birds", {}, id="no settings"),
        pytest.param("birds:", "birds", {}, id="none behind the colon"),
        pytest.param("", "", {}, id="nothing at all"),
        pytest.param(":weight=2", "", {"weight": "2"}, id="nothing before the colon"),
        pytest.param("birds:weight=2,split=a", "birds", {"weight": "2", "split": "a"}, id="several"),
        pytest.param(" birds : weight = 2 , ", "birds", {"weight": "2"}, id="spaces and a comma at the end"),
        pytest.param("birds:split=C:/a=b", "birds", {"split": "C:/a=b"}, id="values with colon and equals"),
        pytest.param("birds:weight=1,weight=2", "birds", {"weight": "2"}, id="the last one counts"),
    ],
)
def test_text_is_split(text: str, what: str, settings: dict[str, str]) -> None:
    assert split_settings("--also", text, ("weight", "split")) == (what, settings)
    assert split_settings("--also", text) == (what, settings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("birds:weight", "--also 'birds:weight': 'weight' is no key=value"),
        ("birds:colour=red", "--also 'birds:colour=red': 'colour=red' is none of weight, split, each as"),
        ("a\nb:=", r"--also 'a b:=': '=' is none of weight, split"),
    ],
)
def test_text_that_makes_no_sense_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        split_settings("--also", text, ("weight", "split"))
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
