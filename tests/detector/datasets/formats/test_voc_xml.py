import re
from pathlib import Path

import pytest

from detector.datasets.formats.voc_xml import parse_voc_xml
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


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
CAT = f"<object><name>cat</name>{BOX}</object>"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"<annotation>{CAT}</annotation>".upper().replace("CAT", "cat"), id="in capitals"),
        pytest.param(f"<Annotation>{CAT.replace('object', 'Object')}</Annotation>", id="Object"),
        pytest.param(f"<annotation>{CAT.replace('bndbox', 'bndBox')}</annotation>", id="bndBox"),
        pytest.param(f'<annotation xmlns="http://voc.org">{CAT}</annotation>', id="a namespace"),
        pytest.param(
            f'<v:annotation xmlns:v="voc">{CAT.replace("<", "<v:").replace("<v:/", "</v:")}</v:annotation>',
            id="a namespace with a prefix",
        ),
        pytest.param(f"<annotation><objects>{CAT}</objects></annotation>", id="objects in <objects>"),
        pytest.param(
            f"<annotation><source><annotation>PASCAL VOC2007</annotation></source>{CAT}</annotation>",
            id="VOC's own <annotation> in <source>",
        ),
        pytest.param(
            f"<annotation>{CAT.replace('</name>', '</name><name> cat </name>')}</annotation>",
            id="one name said twice",
        ),
    ],
)
def test_an_object_in_every_spelling(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(content)
    found = parse_voc_xml(path)
    assert (found.names, found.unreadable, found.odd) == (["cat"], [], [])
    assert found.corners.tolist() == [[1, 2, 30, 40]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(f"<items>{CAT}</items>", "an <object> lies within <items>", id="in another element"),
        pytest.param(f"<obj><name>cat</name>{BOX}</obj>", "an <obj> lies within", id="obj"),
        pytest.param(f"<item><name>cat</name>{BOX}</item>", "a <bndbox> lies within <item>", id="item"),
        pytest.param(
            f"<name>cat</name>{BOX}", "a <bndbox> lies within <annotation>", id="no element of its own"
        ),
        pytest.param(
            f"<objects>{BOX}</objects>", "a <bndbox> lies within <objects>", id="objects without object"
        ),
        pytest.param("<thing><place><x>1</x></place></thing>", "no <object> but a <thing>", id="unknown"),
        pytest.param(
            "<objects><t><x>1</x></t></objects>", "no <object> but a <t>", id="unknown in <objects>"
        ),
        pytest.param(
            f"<object><part>{CAT}</part></object>",
            "object 1 holds another <object>",
            id="an object in another",
        ),
        pytest.param(
            f"<object><name>cat</name><name>dog</name>{BOX}</object>",
            r"\(cat and dog\) has 2 names",
            id="2 names",
        ),
        pytest.param(
            f"<object><name>cat</name>{BOX}{BOX.replace('30', '31')}</object>",
            "xmax '30 and 31'",
            id="two boxes of one object",
        ),
        pytest.param('<object name="cat" xmin="1"/>', "object 1 has no name", id="attributes"),
    ],
)
def test_an_object_where_none_belongs_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{content}</annotation>")
    found = parse_voc_xml(path)
    assert found.names == []
    assert re.search(said, found.unreadable[0])


def test_two_annotations_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{CAT}<annotation>{CAT}</annotation></annotation>")
    with pytest.raises(DatasetError, match="a second <annotation>"):
        parse_voc_xml(path)


def test_what_is_said_twice_of_the_picture_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    size = "<size><width>{}</width><height>60</height></size>"
    names = "<filename>a.jpg</filename><filename>b.jpg</filename>"
    path.write_text(f"<annotation>{names}{size.format(50)}{size.format(40)}{CAT}</annotation>")
    found = parse_voc_xml(path)
    assert (found.width, found.filename) == (0, "")
    assert ["50 and 40" in found.odd[0], "a.jpg and b.jpg" in found.odd[1]] == [True, True]
