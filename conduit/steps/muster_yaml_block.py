"""The connector's block in ``muster.yaml``: lines are put in, and everything else stays as the person wrote it.

Where the file is not written in lines of its own (``connectors: {...}``), nothing is changed and the person is shown
what to write. The new text is read back before it takes the old one's place.
"""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bot.config import loader
from conduit.errors import ProvisionError
from core import crash_points, durable_files
from core.errors import MusterError
from core.secret_references import Reference

WRITE = crash_points.declare("provision.settings")

_HEADER = """\
# Muster's settings. Every key may be left out; `muster config check` says what is wrong with this file.
# Secrets never stand here: env:NAME, file:PATH and keyring:NAME say where they are.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectorBlock:
    """What the file has to say."""

    connector: str
    homeserver: str
    user: str
    token_file: Path
    folder: Path
    """Of the file itself; what lies below it is named relative to it, so that an installation can be moved."""
    room: str
    operator: str
    encrypted: bool = False
    former_room: str | None = None
    """A room whose place as the main one `room` takes."""

    def wanted(self) -> dict[str, str]:
        """Return the keys of the block."""
        keys = {} if self.connector == "matrix" else {"kind": "matrix"}
        keys |= {
            "homeserver": self.homeserver,
            "user": self.user,
            "access_token": f"file:{self._token_place()}",
            "fleet_room": self.room,
        }
        return keys | ({"encryption": "required"} if self.encrypted else {})

    def is_its_token(self, reference: object) -> bool:
        """Return whether a reference points to the file with the token, however it is written."""
        try:
            found = Reference.parse(str(reference), folder=self.folder)
        except ValueError:
            return False
        return found.scheme == "file" and os.path.normpath(found.name) == os.path.normpath(self.token_file)

    def _token_place(self) -> Path:
        below = self.token_file.is_relative_to(self.folder)
        return self.token_file.relative_to(self.folder) if below else self.token_file


def edited(text: str | None, block: ConnectorBlock) -> str:
    """Return the file with the block and the operator in it.

    Raises:
        ProvisionError: it says something else already, or lines cannot be put in.
    """
    if text is None:
        text = _HEADER
    before = _parsed(text, block)
    after = copy.deepcopy(before)
    connectors = after.get("connectors")
    if not connectors:
        # The terminal is there where no connectors are named.
        after["connectors"] = {"terminal": None, block.connector: block.wanted()}
        lines = ["terminal:", f"{block.connector}:", *(f"  {line}" for line in _lines(block.wanted()))]
        text = _under(text, "connectors", lines, new="connectors" not in before)
    elif block.connector not in connectors:
        connectors[block.connector] = block.wanted()
        lines = [f"{block.connector}:", *(f"  {line}" for line in _lines(block.wanted()))]
        text = _under(text, "connectors", lines)
    elif connectors[block.connector] is None:
        connectors[block.connector] = block.wanted()
        text = _within(text, block, _lines(block.wanted()))
    else:
        text = _completed(text, connectors[block.connector], block)
    operators = after.get("operators") or {}
    identity = f"{block.connector}:{block.operator}"
    if identity not in operators:
        text = _under(text, "operators", _lines({identity: "admin"}), new="operators" not in before)
        after["operators"] = operators | {identity: "admin"}
    try:
        found = _parsed(text, block)
    except ProvisionError:
        found = {}
    if found != after:
        raise _by_hand(block, "its lines are not where they can be added to")
    return text


def write(paths: loader.Paths, block: ConnectorBlock) -> bool:
    """Put the block in; whether anything had to be changed.

    Raises:
        ProvisionError: it cannot be; the file is as it was.
    """
    real = Path(os.path.realpath(paths.muster_yaml))
    text = _read(real)
    new = edited(text, block)
    check(paths, new)
    if new == text:
        return False
    try:
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o600 if text is None else real.stat().st_mode & 0o777
        if text is not None:
            durable_files.write(real.with_name(f"{real.name}.bak"), text)
        with crash_points.around(WRITE):
            durable_files.write(real, new)
        real.chmod(mode)
    except OSError as error:
        raise ProvisionError(f"{real} cannot be written: {error.strerror}. Then run the same command again.") from error
    return True


def check(paths: loader.Paths, text: str) -> None:
    """See whether Muster would take the file.

    Raises:
        ProvisionError: it would not.
    """
    with tempfile.TemporaryDirectory(prefix="muster-provision-") as folder:
        there = Path(folder)
        (there / "muster.yaml").write_text(text, encoding="utf-8")
        try:
            loader.load(loader.Paths(config=there, state=there, sockets=there))
        except MusterError as error:
            raise ProvisionError(
                f"{paths.muster_yaml} would not be valid: {error}\nFix it (`muster config check`), then run the same "
                "command again."
            ) from None


def preview(paths: loader.Paths, block: ConnectorBlock) -> None:
    """See whether the block can be put in, before anything is done elsewhere.

    Raises:
        ProvisionError: it cannot.
    """
    check(paths, edited(_read(Path(os.path.realpath(paths.muster_yaml))), block))


def user_of(paths: loader.Paths, block: ConnectorBlock) -> str:
    """Return the bot's id as the file has it, where only the name before the colon is known; else the one of
    `block`."""
    text = _read(Path(os.path.realpath(paths.muster_yaml)))
    there = (_parsed(text or "", block).get("connectors") or {}).get(block.connector)
    found = there.get("user") if isinstance(there, dict) else None
    name = block.user.partition(":")[0]
    return found if isinstance(found, str) and found.startswith(f"{name}:") else block.user


def room_of(paths: loader.Paths, block: ConnectorBlock) -> str | None:
    """Return the main room as the file has it."""
    text = _read(Path(os.path.realpath(paths.muster_yaml)))
    there = (_parsed(text or "", block).get("connectors") or {}).get(block.connector)
    found = there.get("fleet_room") if isinstance(there, dict) else None
    return found if isinstance(found, str) else None


# --- lines ---------------------------------------------------------------------------------------------------------


def _completed(text: str, there: Any, block: ConnectorBlock) -> str:
    """Return a block that is there, with the keys that it lacks. `there` is changed alike."""
    wanted = block.wanted()
    if not isinstance(there, dict):
        raise _by_hand(block, f"connectors.{block.connector} is no block")
    for key in ("kind", "homeserver", "user"):
        found = there.get(key)
        same = found == wanted.get(key) or (isinstance(found, str) and found.rstrip("/") == wanted.get(key))
        if key in there and key in wanted and not same:
            raise ProvisionError(
                f"muster.yaml: connectors.{block.connector}.{key} is {json.dumps(found)}, and not "
                f"{json.dumps(wanted[key])}. Correct it, or give this one a name of its own with --connector."
            )
    if "access_token" in there and not block.is_its_token(there["access_token"]):
        raise ProvisionError(
            f"muster.yaml: connectors.{block.connector}.access_token points elsewhere. Write {wanted['access_token']} "
            "there, or give this connector a name of its own with --connector."
        )
    if "password" in there:
        del wanted["access_token"]
    missing = {key: value for key, value in wanted.items() if key not in there}
    if block.former_room is not None and there.get("fleet_room") == block.former_room:
        there["fleet_room"] = block.room
        text = text.replace(block.former_room, block.room)
    if not missing:
        return text
    there |= missing
    return _within(text, block, _lines(missing))


def _under(text: str, section: str, lines: list[str], *, new: bool = False) -> str:
    """Lines at the beginning of a section of the file; `new`: one that is not there yet."""
    if new:
        end = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{end}\n{section}:\n" + "".join(f"  {line}\n" for line in lines)
    whole = text.splitlines(keepends=True)
    at = next((number for number, line in enumerate(whole) if re.match(rf"{section}:\s*(#.*)?$", line)), None)
    if at is None:
        return text
    return _inserted(whole, at, 0, lines)


def _within(text: str, block: ConnectorBlock, lines: list[str]) -> str:
    whole = text.splitlines(keepends=True)
    begin = next((number for number, line in enumerate(whole) if re.match(r"connectors:\s*(#.*)?$", line)), None)
    if begin is None:
        return text
    for number in range(begin + 1, len(whole)):
        if re.match(r"[^\s#]", whole[number]):
            break
        if found := re.match(rf"(\s+){re.escape(block.connector)}:\s*(#.*)?$", whole[number]):
            return _inserted(whole, number, len(found[1]), lines)
    return text


def _inserted(whole: list[str], at: int, depth: int, lines: list[str]) -> str:
    following = (line for line in whole[at + 1 :] if re.match(r"\s*[^\s#]", line))
    first = next(following, "")
    indentation = len(first) - len(first.lstrip(" "))
    if indentation <= depth:
        indentation = depth + 2
    newline = "\r\n" if whole[at].endswith("\r\n") else "\n"
    head = whole[at] if whole[at].endswith("\n") else whole[at] + newline
    put = [f"{' ' * indentation}{line}{newline}" for line in lines]
    return "".join([*whole[:at], head, *put, *whole[at + 1 :]])


def _lines(values: Mapping[str, str]) -> list[str]:
    return [f"{_scalar(key)}: {_scalar(value)}" for key, value in values.items()]


def _scalar(text: str) -> str:
    # Between double quotes, which JSON shares with YAML, unless every version of YAML reads it as a text as it is.
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./:-]*[A-Za-z0-9]", text) and ": " not in text
    return text if plain else json.dumps(text, ensure_ascii=False)


# --- the file ------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProvisionError(f"{path} cannot be read: {error}. Fix it, then run the same command again.") from error


def _parsed(text: str, block: ConnectorBlock) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _by_hand(block, f"it is not valid: {' '.join(str(error).split())[:200]}") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not isinstance(found.get("connectors") or {}, dict):
        raise _by_hand(block, "it is not made of sections")
    return found


def _by_hand(block: ConnectorBlock, reason: str) -> ProvisionError:
    lines = "\n".join(f"    {line}" for line in _lines(block.wanted()))
    return ProvisionError(
        f"muster.yaml cannot be added to: {reason}. Write this into it, then run the same command again:\n"
        f"connectors:\n  {block.connector}:\n{lines}\noperators:\n  "
        f"{_lines({f'{block.connector}:{block.operator}': 'admin'})[0]}"
    )
