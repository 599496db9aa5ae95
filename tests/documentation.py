"""What the pages tell their readers to type: commands, Python, and words in code."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

PROGRAMS = (
    "detector",
    "python",
    "torchrun",
    "pytest",
    "make",
    "curl",
    "docker",
    "pip",
    "git",
    "bash",
    "unzip",
)
"""What lines of commands begin with; others are trees of folders, settings and drawings."""

_VARIABLE = re.compile(r"[A-Z_]+=.*")
_FENCE = re.compile(r"^```(\w*)$")
_SHELL = ("", "sh", "bash", "shell", "console")


@dataclass(frozen=True)
class CommandLine:
    """A command of a page: its words, the variables in front of it, and whether it is one to copy.

    One within a sentence may leave out what the sentence is not about.
    """

    page: str
    words: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict, hash=False)
    whole: bool = True

    @property
    def program(self) -> str:
        """The name of the program, without the folder."""
        return self.words[0].rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def blocks(text: str) -> Iterator[tuple[str | None, str]]:
    """The blocks of code of a page: fenced ones with their language, indented ones with None."""
    language, lines, before = None, [], ""
    in_fence = in_indented = False
    for line in [*text.splitlines(), ""]:
        fence = _FENCE.match(line)
        if in_fence:
            if fence:
                yield language, "\n".join(lines)
                in_fence, lines = False, []
            else:
                lines.append(line)
        elif fence:
            language, in_fence, lines = fence[1], True, []
        elif line.startswith("    ") and (in_indented or not before.strip()):
            in_indented = True
            lines.append(line[4:])
        elif in_indented:
            yield None, "\n".join(lines)
            in_indented, lines = False, []
        before = line


def command_lines(page: Path) -> Iterator[CommandLine]:
    """The commands of a page, those of its blocks first, each once."""
    text, name = page.read_text(), page.relative_to(ROOT).as_posix()
    seen = set()
    for line, whole in [*_block_lines(text), *((span, False) for span in code_spans(text))]:
        command = _parsed(name, line, whole)
        if command is not None and command.words not in seen:
            seen.add(command.words)
            yield command


def _block_lines(text: str) -> Iterator[tuple[str, bool]]:
    for language, block in blocks(text):
        if language is None or language in _SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                yield line, True


def _parsed(page: str, line: str, whole: bool) -> CommandLine | None:
    try:
        words = shlex.split(line, comments=whole)
    except ValueError:  # a quotation mark of prose
        return None
    variables = {}
    while words and _VARIABLE.fullmatch(words[0]):
        variable, _, value = words.pop(0).partition("=")
        variables[variable] = value
    if not words or words[0].rpartition("/")[2] not in PROGRAMS or (len(words) == 1 and not whole):
        return None
    return CommandLine(page, tuple(words), variables, whole)


def code_spans(text: str) -> list[str]:
    """What stands in code within the sentences of a page."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", text)
    prose = re.sub(r"(?m)^    .*$", "", prose)
    return re.findall(r"`([^`\n]+)`", prose)
