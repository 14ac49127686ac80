"""What an agent host and a person's terminal say to each other after `hand_over`: one JSON object per line.

From the terminal ``{"data": BASE64}`` has what was typed, and ``{"size": [ROWS, COLUMNS]}`` its new size. From the
agent host ``{"data": BASE64}`` has what the program prints, and ``{"end": SENTENCE}`` how it ended, last.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

#: Of a shell's environment a program in a sandbox gets these, and no other.
VARIABLES: Final = ("TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE")
_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}")
#: Rows and columns of a terminal.
_LARGEST: Final = 10_000


@dataclass(frozen=True, slots=True)
class TerminalBytes:
    """What was typed or printed."""

    content: bytes


@dataclass(frozen=True, slots=True)
class TerminalSize:
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class TerminalEnd:
    """The program is gone."""

    reason: str


TerminalFrame: TypeAlias = TerminalBytes | TerminalSize | TerminalEnd


def variables(environ: Mapping[str, object]) -> dict[str, str]:
    """Return what a terminal program gets of a shell's environment. Values that no terminal or language has are left
    out."""
    found = {name: environ[name] for name in VARIABLES if name in environ}
    return {name: value for name, value in found.items() if isinstance(value, str) and _VALUE.fullmatch(value)}


def size(rows: object, columns: object) -> TerminalSize:
    """Return a terminal's size. A terminal that does not know its own has 24 rows of 80 columns.

    Raises:
        ValueError: it is none.
    """
    if type(rows) is not int or type(columns) is not int or not (0 <= rows <= _LARGEST and 0 <= columns <= _LARGEST):
        raise ValueError(f"a terminal has 0 to {_LARGEST} rows and columns")
    return TerminalSize(rows or 24, columns or 80)


def line_of(frame: TerminalFrame) -> bytes:
    """Return a frame as it is written to the socket."""
    match frame:
        case TerminalBytes(content):
            source: dict[str, object] = {"data": base64.b64encode(content).decode("ascii")}
        case TerminalSize(rows, columns):
            source = {"size": [rows, columns]}
        case TerminalEnd(reason):
            source = {"end": reason}
    return json.dumps(source, separators=(",", ":")).encode("ascii") + b"\n"


def frame_of(line: bytes) -> TerminalFrame:
    """Read a frame.

    Raises:
        ValueError: it is none.
    """
    try:
        source = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    match source:
        case {"data": str(data)}:
            try:
                return TerminalBytes(base64.b64decode(data, validate=True))
            except binascii.Error as error:
                raise ValueError(f"no base64: {error}") from None
        case {"size": [rows, columns]}:
            return size(rows, columns)
        case {"end": str(reason)}:
            return TerminalEnd(reason)
    raise ValueError("no frame of a terminal")
