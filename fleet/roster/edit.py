"""Changes of ``roster.yaml`` by command: comments and order stay the person's, and the file is whole at every moment.

Where the agents stand in lines of their own, lines are put in or cut out, so that nothing else moves; ruamel.yaml does
what is left. Either way the new text is read back before it takes the old one's place, and must break no rule that the
old one kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core import crash_points, validation_errors, yaml_loader
from core.durable_files import locked, sync_folder
from core.validation_errors import FileProblems
from fleet import roles
from fleet.errors import RosterError
from fleet.roles import ENHANCER, ORCHESTRATOR
from fleet.roster import loader
from fleet.roster.loader import Roster
from fleet.roster.schema import MINIMAL, AgentEntry

WRITE = crash_points.declare("roster.write")

#: The values of an entry that say nothing.
_UNSAID: tuple[object, ...] = (None, {}, (), False)


def check_entry(entry: Mapping[str, Any], fleet: Roster | None = None) -> None:
    """See whether these keys could be in the file as an agent, in that fleet.

    Raises:
        RosterError: they could not; the message says what is wrong with which.
    """
    try:
        AgentEntry.model_validate({key: value for key, value in entry.items() if value is not None})
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, each['loc']))}: {validation_errors.message(each, AgentEntry)}"
            for each in error.errors(include_url=False)
        ]
        raise RosterError("\n".join(wrong)) from None
    if fleet is None or fleet.minimal or entry.get("role") != ORCHESTRATOR:
        return
    lead = next((each.name for each in fleet.agents if each.role == ORCHESTRATOR and each.name != entry["name"]), None)
    if lead is not None:
        raise RosterError(
            f"{lead} is the orchestrator, and a fleet has exactly one. Give {entry['name']} another role, or put it in "
            f"the other's place: `muster add {entry['name']} --role orchestrator --instead-of {lead}`."
        )


def add_agent(path: Path, entry: Mapping[str, Any], *, instead_of: str | None = None) -> bool:
    """Add an agent to the file, which is made if it is not there. Comments and order are kept.

    The file as it was stays beside it as ``roster.yaml.bak``. May take seconds for a roster of thousands. A roster with
    no one in it that does not say its preset becomes a minimal one, so that one agent is enough. A workspace outside
    the person's home is listed among those that are meant to be there.

    Args:
        path: the file.
        entry: the keys of the agent, as they are to be written.
        instead_of: an agent that is removed in the same stroke.

    Returns:
        Whether it was added; False when an agent of that name is there already, and nothing was changed.

    Raises:
        RosterError: the file, or the entry, is not valid, the fleet would break a rule, or it cannot be written. The
            file is as it was.
    """
    with _edited(path) as (real, known_roles):
        before = _read(real, known_roles)
        if before.get(str(entry.get("name"))) is not None:
            return False
        if instead_of is None:
            check_entry(entry, before)
        text = _text(real) if real.exists() else None
        after = loader.HEADER if text is None else text
        if instead_of is not None:
            after = _without(after, real, before, instead_of)
        after = _with_entry(after, real, entry, before)
        _write(real, after, before, known_roles, keep_old=text is not None)
    return True


def remove_agent(path: Path, name: str) -> bool:
    """Take an agent out of the file, with the comment right above it. Everything else stays as it is.

    Returns:
        Whether it was removed; False when there is none of that name.

    Raises:
        RosterError: the file is not valid, the fleet cannot do without the agent, or it cannot be written. The file is
            as it was.
    """
    with _edited(path) as (real, known_roles):
        before = _read(real, known_roles)
        if before.get(name) is None:
            return False
        check_removal(before, name)
        after = _without(_text(real), real, before, name)
        _write(real, after, before, known_roles, keep_old=True)
    return True


def set_default(path: Path, key: str, value: str) -> None:
    """Say in the ``defaults`` of a file that is there what holds for agents that say nothing else.

    Raises:
        RosterError: the file is not valid, or it cannot be written. It is as it was.
    """
    with _edited(path) as (real, known_roles):
        from ruamel.yaml.comments import CommentedMap

        before = _read(real, known_roles)
        text = _text(real)
        content, dump = _ruamel(text, flush_left=re.search(_FLUSH_LEFT, text, re.MULTILINE) is not None)
        if not content.get("defaults"):
            content.insert(
                list(content).index("version") + 1 if "version" in content else 0, "defaults", CommentedMap()
            )
        if key in content["defaults"]:
            content["defaults"][key] = value
        else:
            # In front, since a comment above the next block hangs on the last key of this one.
            content["defaults"].insert(0, key, value)
        _write(real, dump(content), before, known_roles, keep_old=True)


def check_removal(fleet: Roster, name: str) -> None:
    """See whether a fleet can do without an agent.

    Raises:
        RosterError: it cannot; the message says what to add first.
    """
    entry = fleet.get(name)
    if entry is None or fleet.minimal or len(fleet.agents) == 1:
        return
    others = [each.role for each in fleet.agents if each.name != name]
    if entry.role == ORCHESTRATOR and ORCHESTRATOR not in others:
        raise RosterError(
            f"{name} is the only orchestrator, and a fleet has exactly one, so it stays. To have another, put it in "
            f"its place: `muster add NAME --role orchestrator --instead-of {name}`."
        )
    if entry.role == ENHANCER and ENHANCER not in others:
        raise RosterError(
            f"{name} is the only enhancer, and a fleet has at least one, so it stays. Add another first: `add NAME "
            "--role enhancer`."
        )


# --- the text ----------------------------------------------------------------------------------------------------


def _with_entry(text: str, path: Path, entry: Mapping[str, Any], before: Roster) -> str:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    written = CommentedMap({key: _writable(value) for key, value in entry.items() if value not in _UNSAID})
    workspace = entry.get("workspace")
    far = workspace is not None and not loader.is_near(str(workspace), [Path(root) for root in before.workspace_roots])
    nameless = not before.agents and before.preset is None
    if before.agents and not far and (appended := _appended(text, path, written)) is not None:
        return appended
    content, dump = _ruamel(text, flush_left=re.search(_FLUSH_LEFT, text, re.MULTILINE) is not None)
    if content is None:
        content = CommentedMap()
    agents = content.get("agents")
    if not agents:
        content["agents"] = agents = CommentedSeq()
    top = list(content).index("version") + 1 if "version" in content else 0
    if far:
        if not content.get("workspace_roots"):
            content.insert(top, "workspace_roots", CommentedSeq())
        content["workspace_roots"].append(str(workspace))
    if nameless:
        content.insert(top, "preset", MINIMAL)
    agents.append(written)
    return dump(content)


_FLUSH_LEFT = r"^agents:[^\n]*\n(\s*(#[^\n]*)?\n)*-"


def _appended(text: str, path: Path, entry: Mapping[str, Any]) -> str | None:
    """Return the text with an entry in lines of its own behind the last; None where the list is not written in such
    lines."""
    document = yaml_loader.parse(path, text)
    wanted = _values(document)
    found = _lines_of(document, text, len(wanted["agents"]) - 1)
    if found is None:
        return None
    lines, _, end, indentation = found
    newline = "\r\n" if "\r\n" in text else "\n"
    _, dump = _ruamel("", flush_left=True)
    added = "".join(f"{' ' * indentation}{line}{newline}" for line in dump([entry]).splitlines())
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += newline
    wanted["agents"].append({key: _plain(value) for key, value in entry.items()})
    return _if_it_says("".join([*lines[:end], added, *lines[end:]]), path, wanted)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _if_it_says(text: str, path: Path, wanted: Mapping[str, Any]) -> str | None:
    """Return the text, if it says just that."""
    try:
        found = yaml_loader.parse(path, text)
    except FileProblems:
        return None
    return text if not found.problems and _values(found) == wanted else None


def _lines_of(document: yaml_loader.YamlDocument, text: str, index: int) -> tuple[list[str], int, int, int] | None:
    """Return all lines; where those of an entry begin and end; and how far its dash is indented.

    None where the entries do not be in lines of their own.
    """
    starts = [document.place(("agents", each)) for each in range(len(_values(document)["agents"]))]
    lines = text.splitlines(keepends=True)
    dashes = [place[0] - 1 for place in starts if place is not None]
    if len(dashes) != len(starts) or len(set(dashes)) != len(dashes):
        return None
    dash = re.match(r"( *)- ", lines[dashes[index]])
    if dash is None:
        return None
    indentation = len(dash[1])
    end = dashes[index + 1] if index + 1 < len(dashes) else _end_of_list(lines, dashes[index], indentation)
    # What stands above the next entry, or below the list, is not this entry's.
    while end > dashes[index] + 1 and re.match(rf"\s*$| {{0,{indentation}}}#", lines[end - 1]):
        end -= 1
    return lines, dashes[index], end, indentation


def _without(text: str, path: Path, before: Roster, name: str) -> str:
    index = next((index for index, each in enumerate(before.agents) if each.name == name), None)
    if index is None:
        raise RosterError(f"no agent of the roster is called {name!r}.")
    cut = _cut(text, path, index)
    if cut is not None:
        return cut
    content, dump = _ruamel(text, flush_left=False)
    del content["agents"][index]
    return dump(content)


def _cut(text: str, path: Path, index: int) -> str | None:
    """Return the text without the lines of an entry; None where it does not be in lines of its own, or others
    need it."""
    document = yaml_loader.parse(path, text)
    found = _lines_of(document, text, index)
    if found is None:
        return None
    lines, begin, end, indentation = found
    while begin > 0 and re.match(rf" {{{indentation}}}#", lines[begin - 1]):
        begin -= 1
    wanted = _values(document)
    del wanted["agents"][index]
    return _if_it_says("".join([*lines[:begin], *lines[end:]]), path, wanted)


def _end_of_list(lines: list[str], last: int, indentation: int) -> int:
    for number in range(last + 1, len(lines)):
        if (match := re.match(r"( *)[^\s#]", lines[number])) and len(match[1]) <= indentation:
            return number
    return len(lines)


def _values(document: yaml_loader.YamlDocument) -> dict[str, Any]:
    values: dict[str, Any] = dict(document.value) if isinstance(document.value, dict) else {}
    return {**values, "agents": list(values.get("agents") or [])}


def _ruamel(text: str, *, flush_left: bool) -> tuple[Any, Callable[[Any], str]]:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=2 if flush_left else 4, offset=0 if flush_left else 2)

    def dump(content: Any) -> str:
        buffer = io.StringIO()
        yaml.dump(content, buffer)
        return buffer.getvalue()

    return yaml.load(text), dump


def _writable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _writable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(each) for each in value]
    return value if isinstance(value, (bool, int, float)) else str(value)


# --- the file ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _edited(path: Path) -> Iterator[tuple[Path, Collection[str]]]:
    """Hold the file, which may be a link, against other edits: where it really is, and the roles beside the link."""
    real = Path(os.path.realpath(path))
    try:
        with locked(real):
            yield real, roles.library(path.parent / "roles").names
    except OSError as error:
        raise RosterError(f"{real} cannot be written: {error.strerror}. Edit it by hand.") from error


def _read(path: Path, known_roles: Collection[str]) -> Roster:
    try:
        return loader.read(path, known_roles=known_roles)
    except FileProblems as error:
        raise RosterError(str(error)) from None


def _text(path: Path) -> str:
    """Return what is in the file, its line ends as they are."""
    return path.read_bytes().decode("utf-8-sig")


def _write(path: Path, text: str, before: Roster, known_roles: Collection[str], *, keep_old: bool) -> None:
    """Put the new text in place of the old at once, after reading it back."""
    mode = path.stat().st_mode & 0o777 if keep_old else 0o600
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(mode)
        _check(Path(part), before, known_roles)
        if keep_old:
            backup = path.with_name(f"{path.name}.bak")
            backup.unlink(missing_ok=True)
            os.link(path, backup)
        with crash_points.around(WRITE):
            os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    sync_folder(path.parent)


def _check(part: Path, before: Roster, known_roles: Collection[str]) -> None:
    """A roster that broke a rule before may go on breaking it: it is repaired step by step."""
    try:
        after = loader.read(part, known_roles=known_roles)
        broken = {breach.subject for breach in before.breaches}
        if new := [breach.problem for breach in after.breaches if breach.subject not in broken]:
            raise FileProblems(new)
    except FileProblems as error:
        raise RosterError("\n".join(f"{each.key}: {each.message}" for each in error.problems)) from None
