"""YAML files as they are written: a class called ``no`` or ``010`` is text, not False or 8."""

from pathlib import Path
from typing import Any

import yaml

from detector.datasets.formats.text_files import read_text
from detector.datasets.formats.values import shown
from detector.errors import DatasetError
from detector.io.terminal_text import one_line

_CORE = "tag:yaml.org,2002:"
_SCALARS = tuple(_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value"))
_LIST, _MAPPING = _CORE + "seq", _CORE + "map"
_NULLS = ("", "~", "null", "Null", "NULL")
_MERGE = "<<"
_DEEPEST = 100  # lists and mappings in one another: beyond it nobody wrote them by hand
_LARGEST = 2_000_000  # characters; the largest descriptions (thousands of classes) have a tenth


class YamlScalar(str):
    """A scalar as its file has it: the text, the line where it begins (from 1), and whether it is ``plain``,
    without quotes."""

    line: int
    plain: bool

    @classmethod
    def of(cls, node: yaml.ScalarNode) -> "YamlScalar":
        found = cls(node.value)
        found.line = node.start_mark.line + 1
        found.plain = node.style is None
        return found


def is_null(value: Any) -> bool:
    """Return whether a value says nothing: none is written, or YAML's null."""
    return isinstance(value, YamlScalar) and value.plain and value in _NULLS


def read_yaml(path: Path) -> Any:
    """Read a YAML file: scalars and keys of dicts as :class:`YamlScalar`; ``<<`` merges.

    Raises FileNotFoundError if there is no such file, DatasetError, with the line, if it is no YAML, is not
    in an encoding of Unicode, holds types of a program, or has a key twice, of which YAML readers take one
    in silence.
    """
    text = read_text(path)
    if len(text) > _LARGEST:
        raise DatasetError(f"{path} cannot be read: {len(text):,} characters describe no data set")
    for number, line in enumerate(text.splitlines(), start=1):
        if any("\ud800" <= letter <= "\udfff" for letter in line):
            raise DatasetError(f"{path}, line {number}, is not UTF-8: save the file in that encoding")
    try:
        return _Converter(path).value(yaml.compose(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {one_line(error)}") from error


class _Loader(yaml.BaseLoader):
    """PyYAML's loader that takes every scalar for text, with a bound on depth: its calls are nested too."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            line = self.peek_event().start_mark.line + 1
            raise yaml.YAMLError(f"line {line} has over {_DEEPEST} lists or mappings in one another")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Converter:
    """Makes values of the nodes of one file. Each node is made once: aliases share what they name, however
    often they name it, and may name what they stand in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[int, Any] = {}

    def value(self, node: Any) -> Any:
        if node is None:  # an empty file
            return None
        if id(node) not in self._made:
            self._make(node)
        return self._made[id(node)]

    def _make(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            self._made[id(node)] = YamlScalar.of(node)
        elif isinstance(node, yaml.SequenceNode) and node.tag == _LIST:
            found: list[Any] = []
            self._made[id(node)] = found
            found += [self.value(item) for item in node.value]
        elif isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            mapping: dict[YamlScalar, Any] = {}
            self._made[id(node)] = mapping
            self._fill(mapping, node)
        else:
            raise self._error(node, f"has the type {node.tag}: write plain text, lists and mappings")

    def _fill(self, mapping: dict[YamlScalar, Any], node: yaml.MappingNode) -> None:
        merged: list[Any] = []
        for key_node, value_node in node.value:
            key = self.value(key_node)
            if not isinstance(key, YamlScalar):
                raise self._error(key_node, "has a list or a mapping for a key: write text")
            value = self.value(value_node)
            if key == _MERGE and key.plain:
                merged += value if isinstance(value, list) else [value]
                continue
            first = next((there for there in mapping if there == key), None) if key in mapping else None
            if first is not None:
                raise self._error(
                    key_node,
                    f"has {shown(str(key))} for the second time (line {first.line}): leave one of them",
                )
            mapping[key] = value
        for source in merged:
            if not isinstance(source, dict):
                raise self._error(node, f"or below, merges ({_MERGE}) what is no mapping")
            for key, value in list(source.items()):  # it may be merged into itself
                mapping.setdefault(key, value)

    def _error(self, node: yaml.Node, message: str) -> DatasetError:
        return DatasetError(f"{self._path}, line {node.start_mark.line + 1}, {message}")
