"""How the project's commands and scripts read their options: the parameters of a function, by tyro."""

import argparse
import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from detector.cli.standard_streams import lasting_streams
from detector.io.terminal_text import printable_path

_registry = ConstructorRegistry()


@dataclass(frozen=True)
class DefaultFrom:
    """Marks, in ``Annotated``, a parameter whose default depends on the command line.

    ``choose`` gets all arguments and returns the default.
    """

    choose: Callable[[Sequence[str]], Any]


def at_least(least: float, kind: type[int] | type[float] = int) -> PrimitiveConstructorSpec[Any]:
    """Mark, in ``Annotated``, a number that is refused below ``least``."""

    def read(texts: list[str]) -> float:
        number = kind(texts[0])
        if not number >= least:
            raise ValueError(f"must be {least} or more, got {texts[0]}")
        return number

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value).lower()],
    )


def run_script(command: Callable[..., None]) -> None:
    """Run a script of one command, whose options are the parameters of ``command``."""
    with lasting_streams():
        run_command(command, sys.argv[1:], sys.argv[0])


def run_command(
    command: Callable[..., None],
    arguments: Sequence[str],
    prog: str,
    *,
    spread: str | None = None,
    further_help: str = "",
) -> None:
    """Run ``command`` with parameters that are read from ``arguments``.

    A parameter is an option; a positional argument where it is marked with ``tyro.conf.Positional``; a group
    of options where it is a dataclass. Its help is that of ``tyro.conf.arg``, a dataclass field's the
    docstring below the field; the help of all is the command's docstring and ``further_help``. ``spread``
    names the parameter, a sequence of paths, that takes all positional arguments, wherever they stand. A
    sequence without a default has at least one entry.

    Mistakes of usage, a ValueError of a dataclass among them, end the process with status 2 and a message on
    standard error.
    """
    check_arguments(arguments, prog)
    try:
        binding = _binding(command, arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error

    def read(given: Sequence[str], **settings: Any) -> Any:
        return tyro.cli(
            binding,
            args=given,
            prog=prog,
            description=f"{_wrapped(inspect.getdoc(command) or '')}\n\n{further_help}".strip(),
            config=(tyro.conf.EnumChoicesFromValues, tyro.conf.PositionalMetavarFromFieldName),
            registry=_registry,
            **settings,
        )

    if spread is None:
        bound = read(arguments)
    else:
        # tyro takes positional arguments in one place alone; it returns those of other places as unknown.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        bound, further = read(arguments[:end], return_unknown_args=True)
        if any(len(argument) > 1 and argument.startswith("-") for argument in further):
            read(arguments[:end])  # says which is unknown, and ends
        bound.keywords[spread].extend(map(Path, [*further, *arguments[end + 1 :]]))
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.default is parameter.empty and bound.keywords[name] == []:
            asked = name if name == spread else f"--{name}"
            print(f"error: {asked} must be given; {prog} --help says more", file=sys.stderr)
            raise SystemExit(2)
    bound()


def check_arguments(arguments: Sequence[str], before: str) -> None:
    """End the command, as for other mistakes of usage, where an argument is empty.

    It is an unset variable (``--output "$OUT"``), and an empty path would mean the folder one is in.
    ``before`` is what stands before the arguments.
    """
    for previous, argument in pairwise([before, *arguments]):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            where = argument or f"an argument behind {printable_path(previous)}"
            print(f"error: {where} is empty: is a variable not set?", file=sys.stderr)
            raise SystemExit(2)


def option_given(arguments: Sequence[str], option: str) -> str | None:
    """Find the value of one option among all arguments, for the default of another."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(option, dest="value")
    try:
        return parser.parse_known_args(list(arguments))[0].value
    except argparse.ArgumentError:  # without a value, which is told where all options are read
        return None


def _wrapped(text: str) -> str:
    """Break the paragraphs of a docstring to the width of the terminal."""
    width = shutil.get_terminal_size().columns
    return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in text.split("\n\n"))


def _binding(command: Callable[..., None], arguments: Sequence[str]) -> Callable[..., partial[None]]:
    """Make a function with the parameters of ``command``, their defaults chosen, that binds them to it."""

    @wraps(command)
    def bind(**options: Any) -> partial[None]:
        return partial(command, **options)

    signature = inspect.signature(command)
    chosen = [
        parameter.replace(default=mark.choose(arguments))
        for parameter in signature.parameters.values()
        for mark in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(mark, DefaultFrom)
    ]
    parameters = signature.parameters | {parameter.name: parameter for parameter in chosen}
    bind.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    return bind


@_registry.primitive_rule
def _optional(
    info: PrimitiveTypeInfo,
) -> PrimitiveConstructorSpec[Any] | tyro.constructors.UnsupportedTypeAnnotationError | None:
    """Read ``T | None`` as T alone: to tyro the text ``None`` is no path and no name, but None."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if info.type_origin not in (Union, UnionType) or len(kinds) != 1:
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return spec
    return replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["none"] if value is None else spec.str_from_instance(value),
    )
