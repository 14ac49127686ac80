"""From a YAML file to a validated model, with every problem located: file, line, key, what was found, what is allowed.

Reads the part of YAML that people write on purpose. Of YAML 1.1's surprises none are kept: ``no``, ``on``, ``010``,
``12:30`` and ``2026-01-01`` stay the texts that they look like. Files are bounded (size, depth, expansion of aliases),
since what writes them is not always a person.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from core.validation_errors import FileProblems, Problem, allowed, described, message, model_at, plain, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)

Place: TypeAlias = tuple[int, int]
"""Line and column, each counted from 1."""

#: Bytes of one file.
LARGEST_FILE = 8 * 1024 * 1024
#: Lists and mappings within each other.
DEEPEST_NESTING = 40
#: Values that aliases may add to those that are written out.
LARGEST_EXPANSION = 100_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?")
_CONSTANTS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class _Node:
    """A value with its place."""

    place: Place
    value: Any
    size: int = 1
    mapping: dict[str, tuple[Place, _Node]] | None = None
    """Where each key stands, and what stands behind it."""
    sequence: list[_Node] | None = None
    anchor: str | None = None
    key: tuple[Place, str] | None = None
    """While it is being read: the key that waits for its value."""
    merged: list[_Node] = field(default_factory=list)
    """While it is being read: what ``<<`` brings in where the mapping has no key of its own."""


@dataclass(slots=True)
class YamlDocument:
    """What is in a file, and what was found wrong with it so far."""

    path: Path
    value: Any
    """Dictionaries, lists, texts, numbers, booleans, None."""
    problems: list[Problem] = field(default_factory=list)
    _root: _Node | None = None
    _told: set[Problem] = field(default_factory=set)
    """Those of what a model found: it tells the same once for each way in which it tried a value."""

    def report(self, loc: Sequence[str | int], message: str) -> None:
        """Add a problem at the key `loc`."""
        self.problems.append(self.problem(loc, message))

    def problem(self, loc: Sequence[str | int], message: str) -> Problem:
        """Return what is wrong at the key `loc`, without adding it."""
        line, column = self.place(loc) or (None, None)
        return Problem(
            file=self.path.name,
            line=line,
            column=column,
            key=self.key(loc),
            message=message,
        )

    def line(self, loc: Sequence[str | int]) -> int | None:
        """Return the line of the key `loc`, or of the nearest that encloses it."""
        place = self.place(loc)
        return None if place is None else place[0]

    def place(self, loc: Sequence[str | int]) -> Place | None:
        """Like `line`, with the column."""
        node, place = self._root, None
        if node is not None and loc:
            place = node.place
        for part in loc:
            if node is not None and node.mapping is not None and part in node.mapping:
                place, node = node.mapping[str(part)]
            elif node is not None and node.sequence is not None and isinstance(part, int) and part < len(node.sequence):
                node = node.sequence[part]
                place = node.place
            else:
                break
        return place

    def has(self, loc: Sequence[str | int]) -> bool:
        """Return whether the key `loc` is in the file with a value."""
        here = self.value
        for part in loc:
            if isinstance(here, dict):
                here = here.get(part)
            else:
                here = here[part] if isinstance(here, list) and isinstance(part, int) and part < len(here) else None
        return here is not None

    def key(self, loc: Sequence[str | int]) -> str:
        """`loc` as people write it: ``agents[coder0].env.PATH``. An entry of a list goes by its name if it has one."""
        text, here = "", self.value
        for part in loc:
            if isinstance(part, int):
                here = here[part] if isinstance(here, list) and part < len(here) else None
                name = here.get("name") if isinstance(here, dict) else None
                text += f"[{name if isinstance(name, str) and name.isprintable() and len(name) <= 60 else part}]"
            else:
                here = here.get(part) if isinstance(here, dict) else None
                shown = part if part.isprintable() and len(part) <= 60 else f"{part[:60]!r}"
                text += f".{shown}" if text else shown
        return text

    def validate(self, model: type[M], value: Any = None, *, at: Sequence[str | int] = ()) -> M | None:
        """Make a `model` of `value` (of the whole file by default), which is at `at`.

        Problems are added to `problems`, and then the answer is None.
        """
        if value is None and not at:
            value = {} if self.value is None else self.value
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self.report(at, f"found {described(value)}; keys with values are wanted{allowed(model)}.")
            return None
        try:
            return model.model_validate(value, context={"folder": self.path.parent})
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._add(model, detail, tuple(at))
            return None

    def _add(self, model: type[BaseModel], detail: ErrorDetails, at: tuple[str | int, ...]) -> None:
        # Beyond what is in the file, `loc` names what pydantic tried, such as the members of a union.
        loc: list[str | int] = []
        here: Any = self.value
        for part in at:
            here = here[part]
        here = {} if here is None else here
        for part in detail["loc"]:
            if isinstance(part, int) and isinstance(here, dict):
                # One thing stands where a list of them may: it has no place of its own.
                continue
            inside = isinstance(here, dict) or (isinstance(here, list) and isinstance(part, int))
            if part == "[key]" or not inside:
                break
            loc.append(part)
            here = here.get(part) if isinstance(here, dict) else here[int(part)]
        problem = self.problem((*at, *loc), message(detail, model_at(model, detail["loc"][:-1])))
        if problem not in self._told:
            self._told.add(problem)
            self.problems.append(problem)

    def drop_empty(self) -> None:
        """Forget the keys of the file that have no value: sections whose lines are all commented out."""
        if isinstance(self.value, dict):
            self.value = {key: value for key, value in self.value.items() if value is not None}

    def check(self) -> None:
        """Raise `FileProblems` if there are any, in the order of their lines."""
        if self.problems:
            raise FileProblems(in_order(self.problems))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As they stand in the file."""
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0))


# --- reading -----------------------------------------------------------------------------------------------------


def read(path: Path) -> YamlDocument:
    """Read a file. What can be read beside a mistake is read, and the mistake is in `YamlDocument.problems`.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file; what that means is for the caller to say.
        FileProblems: it cannot be read at all, or is not YAML.
    """
    return parse(path, read_text(path))


def parse(path: Path, text: str) -> YamlDocument:
    """Like `read`, of a text that is at the beginning of the file `path`."""
    document = YamlDocument(path=path, value=None)
    try:
        document._root = _Composer(document).compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        column = None if mark is None else mark.column + 1
        found = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        raise _whole(path, line, _syntax(error.problem or "", found), column) from None
    except yaml.YAMLError as error:
        raise _whole(path, None, f"not YAML: {' '.join(str(error).split())}.") from None
    document.value = None if document._root is None else document._root.value
    return document


def open_to_others(path: Path) -> str | None:
    """Return a sentence if other users can change the file, or the folder that it is in."""
    for place in (path, path.parent):
        try:
            mode = stat.S_IMODE(place.stat().st_mode)
        except OSError:
            continue
        if mode & 0o022 and not (place != path and mode & stat.S_ISVTX):
            return (
                f"{place} can be written by other users (mode {mode:04o}), who could change what agents may do. "
                f"Close it with chmod go-w {place}."
            )
    return None


def _whole(path: Path, line: int | None, message: str, column: int | None = None) -> FileProblems:
    return FileProblems([Problem(file=path.name, line=line, column=column, key="", message=message)])


def read_text(path: Path) -> str:
    """Return what is in a file, within bounds.

    Raises:
        FileNotFoundError: there is no such file.
        FileProblems: it cannot be read, or is not text.
    """
    try:
        if path.is_dir():
            raise _whole(path, None, f"{path} is a folder. A file is wanted here; move the folder away.")
        if path.exists() and not path.is_file():
            raise _whole(path, None, f"{path} is not a regular file.")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _whole(path, None, f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > LARGEST_FILE:
        raise _whole(path, None, f"larger than {LARGEST_FILE // 1024 // 1024} MiB, the most that is read.")
    try:
        found = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"not text in UTF-8 (byte 0x{content[error.start]:02x}). Save it as UTF-8."
        raise _whole(path, line, message, column) from None
    if strange := _UNPRINTABLE.search(found):
        line = found.count("\n", 0, strange.start()) + 1
        column = strange.start() - found.rfind("\n", 0, strange.start())
        raise _whole(path, line, f"holds the control character U+{ord(strange[0]):04X}. Remove it.", column)
    return found


def _syntax(problem: str, line: str) -> str:
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation or "found a tab" in problem or ("cannot start any token" in problem and "\t" in line):
        return "indented with a tab. YAML takes spaces only."
    if problem.startswith("mapping values are not allowed"):
        return (
            f"a key is not expected here: {shown(line.strip())}. Mind the indentation, and put a text that has a "
            "colon in it between quotes."
        )
    if "unexpected end of stream" in problem:
        return "a quotation mark opens here, or above, and never closes."
    if "cannot start any token" in problem:
        return f"a text cannot begin like this: {shown(line.strip())}. Put it between quotes."
    where = f": {shown(line.strip())}" if line.strip() else ", before this line"
    return f"not YAML: {problem or 'it ends too early'}{where}."


class _Composer:
    """Events of the YAML parser to nodes, without recursion, so that no file can exhaust the stack."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._open: list[_Node] = []
        self._anchors: dict[str, _Node | None] = {}
        self._root: _Node | None = None
        self._written = 0

    def compose(self, text: str) -> _Node | None:
        documents = 0
        for event in yaml.parse(text, Loader=_Loader):
            mark = event.start_mark
            place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            match event:
                case yaml.ScalarEvent():
                    self._place(_Node(place, self._scalar(event, place)), place, event.anchor, scalar=event.value)
                case yaml.MappingStartEvent():
                    self._begin(_Node(place, {}, mapping={}, anchor=event.anchor), event)
                case yaml.SequenceStartEvent():
                    self._begin(_Node(place, [], sequence=[], anchor=event.anchor), event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    node = self._end()
                    self._place(node, node.place, node.anchor)
                case yaml.AliasEvent():
                    self._place(self._aliased(str(event.anchor), place), place, None)
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise self._stop(place, "a second document begins here (---). One file holds one.")
        return self._root

    def _stop(self, place: Place, message: str) -> FileProblems:
        line, column = place
        return _whole(self._document.path, line, message, column)

    def _begin(self, node: _Node, event: Any) -> None:
        if event.tag is not None and event.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"):
            raise self._stop(node.place, f"holds the tag {shown(event.tag)}. Tags are not taken here.")
        if len(self._open) >= DEEPEST_NESTING:
            raise self._stop(node.place, f"nested deeper than {DEEPEST_NESTING} levels.")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(node)

    def _aliased(self, anchor: str, place: Place) -> _Node:
        if anchor not in self._anchors:
            raise self._stop(place, f"*{plain(anchor)} refers to &{plain(anchor)}, which does not stand above.")
        node = self._anchors[anchor]
        if node is None:
            raise self._stop(place, f"*{plain(anchor)} refers to what it stands in itself.")
        self._written += node.size
        if self._written > LARGEST_EXPANSION:
            raise self._stop(place, f"aliases expand to more than {LARGEST_EXPANSION} values.")
        return node

    def _place(self, node: _Node, place: Place, anchor: str | None, *, scalar: str | None = None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if parent.sequence is not None:
            parent.sequence.append(node)
            parent.value.append(node.value)
            parent.size += node.size
        elif parent.key is None:
            # A key is the text that is written, whatever it might mean elsewhere (on, no, 1).
            if scalar is None and not isinstance(node.value, str):
                raise self._stop(place, f"found {described(node.value)} in the place of a key. Keys are texts.")
            parent.key = (place, scalar if scalar is not None else node.value)
        else:
            self._pair(parent, parent.key, node)
            parent.key = None

    def _pair(self, parent: _Node, key: tuple[Place, str], node: _Node) -> None:
        assert parent.mapping is not None
        place, name = key
        parent.size += 1 + node.size
        if name == "<<" and (node.mapping is not None or node.sequence is not None):
            parent.merged += [node] if node.sequence is None else node.sequence
        elif name in parent.mapping:
            first = parent.mapping[name][0][0]
            line, column = place
            self._document.problems.append(
                Problem(
                    file=self._document.path.name,
                    line=line,
                    column=column,
                    key=self._where(),
                    message=f"is here twice; the first is in line {first}. Keep one.",
                )
            )
        else:
            parent.mapping[name] = (place, node)
            parent.value[name] = node.value

    def _end(self) -> _Node:
        node = self._open.pop()
        for merged in node.merged:
            for name, (place, value) in (merged.mapping or {}).items():
                if node.mapping is not None and name not in node.mapping:
                    node.mapping[name] = (place, value)
                    node.value[name] = value.value
        return node

    def _where(self) -> str:
        parts = [
            f".{plain(node.key[1])}" if node.key is not None else f"[{len(node.sequence or ())}]" for node in self._open
        ]
        return "".join(parts).removeprefix(".")

    def _scalar(self, event: Any, place: Place) -> Any:
        text: str = event.value
        if event.tag is not None and event.tag not in ("tag:yaml.org,2002:str", "!"):
            raise self._stop(place, f"holds the tag {shown(event.tag)}. Tags are not taken here.")
        if event.tag is not None or not event.implicit[0]:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] in "-+.0123456789":
            if _INTEGER.fullmatch(text) and len(text) <= 30:
                return int(text.replace("_", ""))
            if _FLOAT.fullmatch(text) and len(text) <= 60:
                return float(text.replace("_", ""))
        return text
