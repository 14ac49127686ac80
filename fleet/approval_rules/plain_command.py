"""Read a shell command that is plain: a list of pipelines of simple commands, whose words the shell leaves as they are.

This is the second opinion on a command that a rule would allow. It understands very little, and every shell (bash, zsh,
dash) agrees on that little: literal words, quotes without expansions, ``|``, ``&&``, ``||``, ``;``, line ends, and
redirects to files. Everything else is refused, and the request is asked.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

#: Characters that no shell treats as special, at any place of a word.
_LITERAL: Final = frozenset(string.ascii_letters + string.digits + "_-./:,@%+")
#: Words that begin something other than a simple command, in one shell or another.
_RESERVED: Final = frozenset(
    str.split(
        "if then else elif fi for foreach while until repeat do done case esac select function time coproc in end "
        "nocorrect noglob { } ! [[ ]] - "
    )
)
#: What may follow `$?`. zsh takes more for a part of it.
_AFTER_STATUS: Final = frozenset(("", *" \t\n;\"'.,)"))
_PRINTABLE: Final = frozenset(map(chr, range(32, 127)))


class NotPlain(Exception):
    """The command has a part that is not understood. The message says which."""


@dataclass(frozen=True, slots=True)
class PlainRedirect:
    """A redirect to or from a file."""

    operator: str
    path: str


@dataclass(frozen=True, slots=True)
class PlainPart:
    """One simple command."""

    words: tuple[str, ...]
    redirects: tuple[PlainRedirect, ...] = ()
    fed: bool = False
    """Whether it reads the output of another command, or a file, as its input."""


def plain_parts(text: str) -> tuple[PlainPart, ...]:
    """Return the simple commands in their order.

    Raises:
        NotPlain: the command is not plain.
    """
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._parts: list[PlainPart] = []
        self._words: list[str] = []
        self._redirects: list[PlainRedirect] = []
        self._redirect: str | None = None
        self._piped = False
        self._joined = False
        """Whether an operator before this place needs another command."""
        self._word: list[str] | None = None
        self._quoted = False

    def read(self) -> tuple[PlainPart, ...]:
        while self._at < len(self._text):
            self._step(self._text[self._at])
        self._end_command()
        if self._joined or not self._parts:
            raise NotPlain("a command is missing")
        return tuple(self._parts)

    def _next(self) -> str:
        return self._text[self._at + 1 : self._at + 2]

    def _step(self, char: str) -> None:
        if char in " \t":
            self._end_word()
        elif char == "\n":
            self._end_command()
        elif char in ";|&":
            self._operator(char)
        elif char in "<>":
            self._begin_redirect(char)
        elif char == "'":
            self._single_quoted()
        elif char == '"':
            self._double_quoted()
        elif char == "\\":
            if self._next() not in _PRINTABLE:
                raise NotPlain("a backslash before the end of a line")
            self._add(self._next(), quoted=True)
            self._at += 1
        else:
            self._literal(char)
        self._at += 1

    def _is_status(self) -> bool:
        """Return whether the exit status of the command before stands here, and nothing that could change it."""
        return (
            self._next() == "?"
            and self._text[self._at + 2 : self._at + 3] in _AFTER_STATUS
            and self._words[:1] in (["echo"], ["printf"])
            and self._redirect is None
        )

    def _status(self) -> None:
        self._add("$?", quoted=True)
        self._at += 1

    def _literal(self, char: str) -> None:
        if char == "$" and self._is_status():
            self._status()
            return
        before = self._word[-1:] if self._word is not None else []
        inside = bool(before)
        allowed = (
            char in _LITERAL
            # zsh replaces a leading `=`; a first word with one is an assignment.
            or (char == "=" and inside and bool(self._words))
            # A word of its own: no shell takes it for its history before a space.
            or (char == "!" and self._word is None and bool(self._words) and self._next() in (" ", "\t"))
            # Revisions of git. Shells replace a `~` where a word, or what follows `:` or `=`, begins.
            or (char in "~^" and inside and (before[0].isalnum() or before[0] in "~^"))
        )
        if not allowed:
            raise NotPlain(f"{char!r} outside of quotes")
        self._add(char)

    def _add(self, text: str, *, quoted: bool = False) -> None:
        self._word = self._word if self._word is not None else []
        self._word.extend(text)
        self._quoted = self._quoted or quoted

    def _single_quoted(self) -> None:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise NotPlain("a quote that does not end")
        self._add(self._text[self._at + 1 : end], quoted=True)
        self._at = end

    def _double_quoted(self) -> None:
        self._add("", quoted=True)
        self._at += 1
        while (char := self._text[self._at : self._at + 1]) != '"':
            if not char:
                raise NotPlain("a quote that does not end")
            if char == "$" and self._is_status():
                self._status()
                self._at += 1
                continue
            if char in "$`!":
                raise NotPlain(f"{char!r} in double quotes")
            if char == "\\" and self._next() in ("", "\n", "!"):
                raise NotPlain("a backslash before the end of a line, or before '!'")
            if char == "\\" and self._next() in ("\\", '"', "$", "`"):
                self._at += 1
                char = self._text[self._at]
            elif char == "\\":
                # The backslash stays; the next character is ordinary.
                self._add(char)
                self._at += 1
                char = self._text[self._at]
            self._add(char)
            self._at += 1

    def _operator(self, char: str) -> None:
        doubled = self._next() == char
        if char == "&" and not doubled:
            raise NotPlain("'&' that starts a background command")
        if char == ";" and doubled:
            raise NotPlain("';;'")
        if char == "|" and self._next() == "&":
            raise NotPlain("'|&'")
        self._end_word()
        if not self._words:
            raise NotPlain(f"{char!r} without a command before it")
        self._end_command()
        self._piped = char == "|" and not doubled
        self._joined = char != ";"
        self._at += doubled

    def _begin_redirect(self, char: str) -> None:
        adjacent = "".join(self._word or ())
        if adjacent.isdigit() and not self._quoted:
            if char == "<" or adjacent not in ("1", "2") or self._redirect is not None:
                raise NotPlain(f"a redirect of descriptor {adjacent}")
            self._word = None
        self._end_word()
        if self._redirect is not None or not self._words:
            raise NotPlain("a redirect without a command before it")
        following = self._next()
        if char == ">" and following == "&":
            target, after = self._text[self._at + 2 : self._at + 3], self._text[self._at + 3 : self._at + 4]
            if target not in ("1", "2") or after not in ("", " ", "\t", "\n", ";", "|"):
                raise NotPlain("a redirect to another descriptor than 1 and 2")
            self._at += 2
            return
        if following in ("<", "(", "|", "&") or (char == "<" and following == ">"):
            raise NotPlain(f"'{char}{following}'")
        self._redirect = char
        if char == ">" and following == ">":
            self._redirect = ">>"
            self._at += 1

    def _end_word(self) -> None:
        if self._word is None:
            return
        word = "".join(self._word)
        if self._redirect is not None:
            self._redirects.append(PlainRedirect(self._redirect, word))
            self._redirect = None
        elif not self._words and word in _RESERVED:
            raise NotPlain(f"{word!r}")
        else:
            self._words.append(word)
        self._word, self._quoted = None, False

    def _end_command(self) -> None:
        self._end_word()
        if self._redirect is not None:
            raise NotPlain("a redirect without a path")
        if not self._words:
            return
        fed = self._piped or any(redirect.operator == "<" for redirect in self._redirects)
        self._parts.append(PlainPart(tuple(self._words), tuple(self._redirects), fed))
        self._words, self._redirects = [], []
        self._piped = self._joined = False
