from pathlib import Path

import pytest

from detector.datasets.voc_xml import parse_voc_xml
from detector.errors import DatasetError

OBJECT = (
    "<object><name> cat </name><part><bndbox><xmin>1</xmin></bndbox></part><difficult>1</difficult>"
    "<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
)


def test_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation><size><width>50</width><height>60</height></size>{OBJECT}</annotation>")
    found = parse_voc_xml(path)
    assert (found.width, found.height, found.names) == (50, 60, ["cat"])
    assert found.corners.tolist() == [[1, 2.5, 30, 40]]
    assert found.difficult.tolist() == [True]


def test_neither_size_nor_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<annotation/>")
    found = parse_voc_xml(path)
    assert (found.width, found.height, found.names) == (0, 0, [])
    assert found.corners.shape == (0, 4)


BROKEN = [
    pytest.param(b"", id="empty file"),
    pytest.param(b"<annotation><object>", id="cut off"),
    pytest.param(b"\xff\xfe\x00garbage", id="not text"),
    pytest.param(b"<html></html>", id="some other XML"),
    pytest.param(
        b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
        id="entities: the way to blow up a parser",
    ),
    pytest.param(
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "b">]><annotation/>'.encode("utf-16"),
        id="a document type that a search for ASCII text would miss",
    ),
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.xml"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"broken\.xml"):
        parse_voc_xml(path)


def test_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parse_voc_xml(tmp_path / "absent.xml")
