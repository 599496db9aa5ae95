"""Turns the references of docstrings into Markdown for the site.

Docstrings name other objects as Sphinx writes them, ``:func:`detector.io.decoding.as_rgb```, which editors
show well enough. Markdown knows no roles: the name stays, as code.
"""

import re

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([\w.]+)`")


def linked(text: str) -> str:
    """Return the text of a docstring with its roles as Markdown."""
    return ROLE.sub(r"`\1`", text)


class DocstringRoles(griffe.Extension):
    """An extension of griffe, which reads the docstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of each module, class, function and attribute once it was read."""
        if obj.docstring is not None:
            obj.docstring.value = linked(obj.docstring.value)
