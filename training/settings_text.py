"""The small syntax of options whose value has settings of its own: ``WHAT:key=value,key=value``."""

from collections.abc import Collection

from detector.errors import ParameterError
from detector.io.terminal_text import one_line


def split_settings(option: str, text: str, keys: Collection[str] = ()) -> tuple[str, dict[str, str]]:
    """Split ``WHAT:key=value,key=value`` into WHAT and its settings, in words.

    Text without a colon is WHAT alone. ``keys`` are those that there are; without any, all are taken. Spaces
    around words mean nothing, and of a key that stands twice the last value counts. Raises ParameterError
    that names ``option``, as :func:`settings_error` does.
    """
    what, _, rest = text.partition(":")
    settings: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise settings_error(option, text, f"{part!r} is no key=value")
        if keys and key not in keys:
            raise settings_error(option, text, f"{part!r} is none of {', '.join(keys)}, each as key=value")
        settings[key] = value
    return what.strip(), settings


def settings_error(option: str, text: str, problem: object) -> ParameterError:
    """Say in one line which option and which text has a problem."""
    return ParameterError(f"{option} {one_line(text, limit=200)!r}: {problem}")
