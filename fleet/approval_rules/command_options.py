"""Check a program's arguments by a closed list of its options.

Long options are not shortened, options that are not listed are refused, and what can be a path is returned, so that
the caller can see where it leads. That follows GNU's getopt: options may follow operands, and end at ``--``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Operands = Literal["paths", "text", "pattern", "none"]
Contents = Literal["operands", "tree", "none"]


class Refused(Exception):
    """The arguments are not known to be harmless. The message says which."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program with these arguments reads and makes."""

    paths: tuple[str, ...] = ()
    """Every argument that names, or may name, a file or folder."""
    operands: tuple[str, ...] = ()
    """Every argument that is neither an option nor its value."""
    contents: Contents = "none"
    """Whether it shows contents of the files in `paths`, of whole folders or of history, or of no file."""
    makes: tuple[str, ...] = ()
    """Folders that it makes."""
    follows_links: bool = False
    """Whether it follows links that it finds in folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOptions:
    """The arguments that a program may have."""

    listed: Mapping[str, str] = field(default_factory=dict)
    """By option: empty (it stands alone), ``:`` (a value follows), ``@`` (a path follows), ``=`` (alone, or with a
    value after ``=``)."""
    operands: Operands = "paths"
    """``pattern``: the first one is text, the others are paths."""
    most: int | None = None
    """So many operands at most."""
    contents: Contents = "operands"
    number: bool = False
    """Whether ``-20`` is an option."""
    patterns: frozenset[str] = frozenset()
    """Options that stand for the pattern."""
    tree: frozenset[str] = frozenset()
    """Options that make it read whole folders."""

    def check(self, arguments: Sequence[str]) -> Usage:
        """Return what the program reads.

        Raises:
            Refused: an argument is not on the list.
        """
        return _Check(self, list(arguments)).usage()


def options(
    text: str,
    operands: Operands = "paths",
    *,
    most: int | None = None,
    contents: Contents = "operands",
    number: bool = False,
    patterns: str = "",
    tree: str = "",
) -> KnownOptions:
    """Return the options that `text` lists, such as ``-l -n: -f@ --color=``."""
    listed = {}
    for option in text.split():
        mark = option[-1] if option[-1] in ":@=" else ""
        listed[option.removesuffix(mark)] = mark
    return KnownOptions(
        listed=listed,
        operands=operands,
        most=most,
        contents=contents,
        number=number,
        patterns=frozenset(patterns.split()),
        tree=frozenset(tree.split()),
    )


_END: Final = "--"


class _Check:
    def __init__(self, allowed: KnownOptions, arguments: list[str]) -> None:
        self._allowed = allowed
        self._rest = arguments
        self._operands: list[str] = []
        self._paths: list[str] = []
        self._seen: set[str] = set()

    def usage(self) -> Usage:
        while self._rest:
            argument = self._rest.pop(0)
            if argument == _END:
                self._operands += self._rest
                break
            if argument == "-" or not argument.startswith("-"):
                self._operands.append(argument)
            elif argument.startswith("--"):
                self._long(argument)
            elif not (self._allowed.number and argument[1:].isdigit() and argument.isascii()):
                self._short(argument)
        return self._found()

    def _long(self, argument: str) -> None:
        name, equals, value = argument.partition("=")
        mark = self._mark(name, argument)
        if not mark and equals:
            raise Refused(f"{argument!r} is not known to be harmless")
        if mark in (":", "@"):
            self._value(mark, value if equals else self._following(name))

    def _short(self, argument: str) -> None:
        if argument in self._allowed.listed:
            mark = self._mark(argument, argument)
            if mark in (":", "@"):
                self._value(mark, self._following(argument))
            return
        for place, letter in enumerate(argument[1:], start=1):
            mark = self._mark(f"-{letter}", argument)
            if mark == "=":
                raise Refused(f"{argument!r} is not known to be harmless")
            if mark:
                attached = argument[place + 1 :]
                self._value(mark, attached or self._following(f"-{letter}"))
                return

    def _mark(self, name: str, argument: str) -> str:
        if name not in self._allowed.listed:
            raise Refused(f"{argument!r} is not known to be harmless")
        self._seen.add(name)
        return self._allowed.listed[name]

    def _following(self, name: str) -> str:
        if not self._rest:
            raise Refused(f"{name!r} has no value")
        if self._rest[0].startswith("-"):
            # Another version of the program may take it as an option.
            raise Refused(f"the value of {name!r} begins with '-'")
        return self._rest.pop(0)

    def _value(self, mark: str, value: str) -> None:
        if mark == "@":
            self._paths.append(value)

    def _found(self) -> Usage:
        operands = self._operands
        if self._allowed.most is not None and len(operands) > self._allowed.most:
            raise Refused(f"more than {self._allowed.most} operands are not known to be harmless")
        match self._allowed.operands:
            case "none" if operands:
                raise Refused(f"{operands[0]!r} is not known to be harmless")
            case "paths":
                self._paths += operands
            case "pattern":
                self._paths += operands if self._seen & self._allowed.patterns else operands[1:]
        contents = self._allowed.contents
        if self._seen & self._allowed.tree:
            contents = "tree"
        return Usage(tuple(path for path in self._paths if path != "-"), tuple(operands), contents)
