"""Split a shell command into its simple commands.

tree-sitter's grammar of bash finds every simple command, wherever it stands: in a list, a pipeline, a subshell, a loop,
a function, a substitution, a heredoc. These parts are what a rule that denies is compared with. Only node types on a
closed list are understood; another one, an error in the syntax, or a character that can hide something is a *problem*,
and no rule about commands allows a command with a problem.

For a rule that allows, the grammar's word is not enough, because it errs in places. So the command must also be plain
(`fleet.approval_rules.plain_command`), and both readings must agree in every word.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Protocol

from fleet.approval_rules.plain_command import NotPlain, PlainPart, plain_parts

#: A longer command is not parsed. People cannot check it at a glance either.
LONGEST: Final = 20_000
#: The parser takes time by the square of these characters: half a second for so many on a slow machine.
_OPERATORS: Final = re.compile(r"[|&;<>`(]")
_MOST_OPERATORS: Final = 1000
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_NODES: Final = 20_000
_PARTS: Final = 200

#: Nodes that hold commands or words, and say nothing themselves.
_TRANSPARENT: Final = frozenset(
    str.split(
        "program list pipeline subshell compound_statement redirected_statement negated_command if_statement "
        "elif_clause else_clause while_statement for_statement c_style_for_statement case_statement case_item do_group "
        "command_substitution process_substitution function_definition command_name concatenation string "
        "string_content word number raw_string ansi_c_string translated_string simple_expansion expansion "
        "arithmetic_expansion brace_expression variable_name special_variable_name variable_assignment "
        "variable_assignments array subscript comment file_descriptor file_redirect herestring_redirect test_operator "
        "binary_expression unary_expression "
        "postfix_expression parenthesized_expression ternary_expression regex extglob_pattern heredoc_redirect "
        "heredoc_start heredoc_body heredoc_content heredoc_end escape_sequence"
    )
)
_WORDS: Final = frozenset(
    str.split(
        "word number string raw_string ansi_c_string translated_string concatenation simple_expansion expansion "
        "command_substitution process_substitution arithmetic_expansion brace_expression"
    )
)
_COMMANDS: Final = frozenset(("command", "declaration_command", "unset_command", "test_command"))
_EXPANDING: Final = frozenset(str.split("simple_expansion expansion command_substitution arithmetic_expansion"))
#: A number of up to three digits. It is kept as it is written.
_STATUS: Final = "$?"
#: Characters of a word by which a shell puts something else in its place.
_SPECIAL: Final = frozenset("*?[]{}$`!")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command."""

    text: str
    """What the program gets, quotes removed; if it is not literal, our best guess."""
    literal: bool
    """Whether the shell puts nothing else in its place."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to or from a file."""

    operator: str
    path: Word


@dataclass(frozen=True, slots=True)
class SimpleCommand:
    """A program with its arguments."""

    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()
    assignments: tuple[str, ...] = ()
    """Variables that are set for this command alone, such as ``PATH``."""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A command as it was understood."""

    parts: tuple[SimpleCommand, ...]
    """Every simple command that was found, also if there is a problem."""
    redirects: tuple[Redirect, ...]
    """Redirects of all parts, and of loops and groups."""
    problem: str | None
    """Why the command cannot be fully known; None: it is."""
    plain: tuple[PlainPart, ...] | None
    """The simple commands, if the command is plain. Only then a rule can allow them."""
    not_plain: str = ""
    """What is not plain."""


@lru_cache(maxsize=32)
def parse(text: str) -> ShellCommand:
    """Return what a shell would run. Nothing here raises: what is not understood is a problem."""
    problem = _suspicious(text)
    if len(text) > LONGEST:
        return ShellCommand((), (), f"it is longer than {LONGEST} characters", None, "its length")
    if len(_OPERATORS.findall(text)) > _MOST_OPERATORS:
        return ShellCommand((), (), f"it has more than {_MOST_OPERATORS} operators", None, "its operators")
    parts, redirects, found = _Walk(text).parts()
    problem = problem or found
    if problem is not None:
        return ShellCommand(parts, redirects, problem, None, problem)
    try:
        plain = plain_parts(text)
    except NotPlain as error:
        return ShellCommand(parts, redirects, None, None, str(error))
    if plain != _as_plain(parts, plain):
        return ShellCommand(parts, redirects, None, None, "two readings of the command differ")
    return ShellCommand(parts, redirects, None, plain)


def plain_of(text: str) -> tuple[PlainPart, ...] | None:
    """Return the simple commands of a command that is plain, or None. The grammar sees no other command."""
    try:
        plain_parts(text)
    except NotPlain:
        return None
    return parse(text).plain


@lru_cache(maxsize=1024)
def words_of(command: str) -> tuple[str, ...] | None:
    """Return the words of a rule's command, or None if it is not one simple command of literal words."""
    plain = plain_of(command)
    if plain is None or len(plain) != 1 or plain[0].redirects:
        return None
    return plain[0].words


def _as_plain(parts: tuple[SimpleCommand, ...], other: tuple[PlainPart, ...]) -> object:
    """Return `parts` in the form of `other`, which knows what is fed; something unequal if a part is not literal."""
    if len(parts) != len(other):
        return None
    found = []
    for part, plain in zip(parts, other, strict=True):
        if part.assignments or not all(word.literal for word in part.words):
            return None
        if [(each.operator, each.path.text) for each in part.redirects] != [
            (each.operator, each.path) for each in plain.redirects
        ]:
            return None
        found.append(PlainPart(tuple(word.text for word in part.words), plain.redirects, plain.fed))
    return tuple(found)


def _suspicious(text: str) -> str | None:
    """Return why a person could read the text as another one than the shell."""
    for char in text:
        if char in "\n\t" or " " <= char <= "~":
            continue
        if char < " " or char == "\x7f":
            return f"it has the control character U+{ord(char):04X}"
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Mn", "Me"):
            return f"it has the invisible or unusual character U+{ord(char):04X}"
        return f"it has the character U+{ord(char):04X}, which can look like another one"
    return None


class _Node(Protocol):
    """What is used of a node of tree-sitter, which is imported when the first command is parsed."""

    @property
    def id(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def is_named(self) -> bool: ...
    @property
    def has_error(self) -> bool: ...
    @property
    def start_byte(self) -> int: ...
    @property
    def end_byte(self) -> int: ...
    @property
    def children(self) -> Sequence[_Node]: ...
    @property
    def named_children(self) -> Sequence[_Node]: ...
    def child_by_field_name(self, name: str, /) -> _Node | None: ...


@cache
def _parser() -> Callable[[bytes], _Node]:
    import tree_sitter
    import tree_sitter_bash

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))
    return lambda source: parser.parse(source).root_node


#: Words that shells reserve and that name no program (bash(1), RESERVED WORDS), but for those that begin a test.
_RESERVED: Final = frozenset(
    {
        *("!", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select"),
        *("then", "until", "while", "{", "}"),
    }
)


@dataclass(frozen=True, slots=True)
class _Redirected:
    redirects: list[Redirect]
    words: list[Word]


class _Walk:
    def __init__(self, text: str) -> None:
        self._shown = text.encode("utf-8", "replace").decode("utf-8")
        # The grammar's scanner (tree-sitter-bash 0.25.1) ends the process at characters such as U+E0000 behind a brace.
        # Each character becomes one byte, so that positions are those of the text.
        self._source = _NOT_ASCII.sub("x", self._shown).encode("ascii")
        self._problem: str | None = None

    def parts(self) -> tuple[tuple[SimpleCommand, ...], tuple[Redirect, ...], str | None]:
        root = _parser()(self._source)
        commands: list[tuple[int, SimpleCommand]] = []
        redirects: list[tuple[int, Redirect]] = []
        # `foo >x` is a redirected_statement around a command: the redirect is the command's.
        outer: dict[int, _Redirected] = {}
        waiting: list[_Node] = [root]
        count = 0
        if root.has_error:
            self._problem = "its syntax is not understood"
        while waiting:
            node = waiting.pop()
            count += 1
            if count > _NODES:
                self._problem = "it has too many parts"
                break
            if node.type in _COMMANDS:
                commands.append((node.start_byte, self._command(node, outer.get(node.id, _Redirected([], [])))))
            elif node.is_named and node.type not in _TRANSPARENT:
                self._problem = self._problem or f"its part {node.type!r} is not understood"
            if node.type == "redirected_statement":
                found = self._redirected(node)
                redirects += [(node.start_byte, redirect) for redirect in found.redirects]
                body = node.child_by_field_name("body")
                # A redirect after a list or a pipeline is that of its last command.
                while body is not None and body.type in ("list", "pipeline") and body.named_children:
                    body = body.named_children[-1]
                if body is not None and body.type == "command":
                    outer[body.id] = found
                elif found.words:
                    self._problem = self._problem or "words follow a redirect"
            if node.type == "command":
                redirects += [(node.start_byte, redirect) for redirect in self._redirected(node).redirects]
            if node.type == "heredoc_body" and any(child.type in _EXPANDING for child in node.children):
                self._problem = self._problem or "its heredoc has expansions"
            waiting.extend(reversed(node.children))
        if len(commands) > _PARTS:
            self._problem = self._problem or f"it has more than {_PARTS} parts"
        # The grammar takes the second `!` of `! ! rm x` for a program's name, where a shell negates twice.
        if any(command.words and command.words[0].text in _RESERVED for _, command in commands):
            self._problem = self._problem or "a reserved word stands where a program's name is expected"
        commands.sort(key=lambda each: each[0])
        redirects.sort(key=lambda each: each[0])
        return (
            tuple(command for _, command in commands),
            tuple(redirect for _, redirect in redirects),
            self._problem,
        )

    def _command(self, node: _Node, outer: _Redirected) -> SimpleCommand:
        words: list[Word] = []
        assignments: list[str] = []
        for child in node.children:
            if child.type == "variable_assignment" and node.type == "command":
                name = child.child_by_field_name("name")
                assignments.append(self._text(name) if name is not None else "")
            elif child.type in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
                continue
            elif not child.is_named:
                # `export`, `[[`: named by their own text.
                words.append(Word(self._text(child), True))
            else:
                words.append(self._word(child))
        own = self._redirected(node)
        return SimpleCommand((*words, *own.words, *outer.words), (*own.redirects, *outer.redirects), tuple(assignments))

    def _redirected(self, node: _Node) -> _Redirected:
        """Return the redirects at a command, and the words of the command that the grammar puts into them."""
        found = _Redirected([], [])
        for child in node.children:
            if child.type == "file_redirect":
                self._file_redirect(child, found)
            elif child.type == "heredoc_redirect":
                for part in child.children:
                    if part.type == "file_redirect":
                        self._file_redirect(part, found)
                    elif part.type in _WORDS:
                        found.words.append(self._word(part))
        return found

    def _file_redirect(self, node: _Node, found: _Redirected) -> None:
        operator = next((each.type for each in node.children if not each.is_named), "")
        targets = [each for each in node.children if each.is_named and each.type != "file_descriptor"]
        if not targets:
            self._problem = self._problem or "a redirect is not understood"
            return
        # `git 2>x push`: the grammar takes the second word for another file.
        found.words.extend(self._word(each) for each in targets[1:])
        if operator not in (">&", "<&") or self._text(targets[0]) not in ("0", "1", "2", "-"):
            found.redirects.append(Redirect(operator, self._word(targets[0])))

    def _text(self, node: _Node) -> str:
        return self._shown[node.start_byte : node.end_byte]

    def _word(self, node: _Node) -> Word:
        pieces = list(self._pieces(node))
        text = "".join(piece.text for piece in pieces)
        start = self._text(node)[:1]
        return Word(text, all(piece.literal for piece in pieces) and start not in ("~", "="))

    def _pieces(self, node: _Node) -> Iterator[Word]:
        text = self._text(node)
        match node.type:
            case "command_name" | "concatenation":
                at = node.start_byte
                for child in node.children:
                    if child.start_byte != at:
                        yield Word("", False)
                    yield from self._pieces(child)
                    at = child.end_byte
            case "word" | "number":
                yield Word(text, True) if text == "!" else _unescaped(text)
            case "simple_expansion" if text == _STATUS:
                yield Word(text, True)
            case "raw_string":
                yield Word(text[1:-1], True)
            case "string":
                plain = all(
                    child.type == "string_content" or self._text(child) == _STATUS for child in node.named_children
                )
                yield _unescaped(text[1:-1], quoted=True) if plain else Word(text[1:-1], False)
            case "ansi_c_string":
                yield Word(_ansi_c(text[2:-1]), False)
            case _:
                yield Word(text, False)


def _unescaped(text: str, *, quoted: bool = False) -> Word:
    out: list[str] = []
    literal = True
    chars = iter(text)
    for char in chars:
        if char != "\\":
            literal = literal and (quoted or char not in _SPECIAL)
            out.append(char)
            continue
        following = next(chars, "")
        if following == "\n":
            literal = False
        elif quoted and following not in ("\\", '"', "$", "`"):
            out.append(char + following)
        else:
            out.append(following)
    return Word("".join(out), literal)


def _ansi_c(text: str) -> str:
    r"""Return what ``$'\x72m'`` stands for, or the text itself."""
    try:
        return codecs.decode(text.encode("latin-1", "backslashreplace"), "unicode_escape")
    except (UnicodeDecodeError, ValueError):
        return text
