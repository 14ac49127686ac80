"""``roster.yaml``: the fleet as the operator wants it.

Reading is strict and locates every problem; editing keeps the person's comments and order.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from fleet import durations, liveness, runtimes, yamlfile
from fleet.errors import RosterError
from fleet.names import is_agent_name
from fleet.problems import FileProblems, suggestion
from register import crashpoints
from register.references import HOW_TO_REFER, Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WRITE = crashpoints.declare("roster.write")

#: What an agent's runtime can be.
RUNTIMES = tuple(runtimes.RUNTIMES)
SANDBOXES = ("bubblewrap", "none")

HEADER = """\
# The fleet as you want it. Muster adds an entry when you launch a new agent; comments and order stay yours.
# Check your changes with: muster config check
#
# agents:
#   - name: coder0          # a lower-case letter, then letters, digits and dashes; at most 40
#     role: coder           # what it is for: orchestrator, enhancer, coder, code-review, ...
#     runtime: claude       # claude, codex, opencode, pi, sim, or custom with a command
#     model: opus           # as the runtime names it; absent: the runtime's own default
#     workspace: ~/src/app  # absent: a folder of its own in Muster's state
#     sandbox: bubblewrap   # none lets the agent act as you do: it could read your files and give Muster orders
#     env:                  # all that it gets of the environment; secrets as env:NAME, file:PATH or keyring:NAME
#       EDITOR: "true"
#     prompt: Prefer small commits.
version: 1
"""

_ROLE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: Set by Muster, or a way to run a program inside the runtime before it starts.
_NOT_TO_SET = re.compile(r"HOME|PATH|USER|LOGNAME|SHELL|TMPDIR|XDG_.*|MUSTER_.*|LD_.*|DYLD_.*|BASH_ENV|ENV|PYTHON.*")
_SECRETIVE = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(API_?)?KEY(_|$)", re.IGNORECASE)


def _name(value: str) -> str:
    if not is_agent_name(value):
        raise ValueError(
            f"not a name for an agent: {value[:60]!r}. It is a lower-case letter, then lower-case letters, digits and "
            "dashes; at most 40."
        )
    return value


def _role(value: str) -> str:
    if not _ROLE.fullmatch(value):
        raise ValueError(f"not a role: {value[:60]!r}. Write it in lower-case letters, digits and dashes, like coder.")
    return value


def _runtime(value: str) -> str:
    if value not in RUNTIMES:
        raise ValueError(f"found {value[:60]!r}; allowed are {', '.join(RUNTIMES)}.{suggestion(value, RUNTIMES)}")
    return value


def _folder(value: str) -> str:
    path = Path(value)
    if value.startswith("~/"):
        with contextlib.suppress(RuntimeError):
            path = path.expanduser()
    if not path.is_absolute() or not value.isprintable():
        raise ValueError(f"found {value[:80]!r}; an absolute path is wanted, or one that begins with ~/.")
    return os.path.normpath(path)


def _word(value: str) -> str:
    if not value.strip() or not value.isprintable() or value.startswith("-"):
        raise ValueError(f"found {value[:60]!r}; a name is wanted.")
    return value


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip() or any("\0" in part for part in value):
        raise ValueError("found no program; a list of a program and its arguments is wanted, like [my-agent, --acp].")
    return value


def _value(value: object, info: ValidationInfo) -> str | Reference:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Reference):
        return value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a text is wanted, or env:NAME, file:PATH, keyring:NAME. Put the value between quotes.")
    if re.match(r"(env|file|keyring):", value):
        return Reference.parse(value, folder=(info.context or {}).get("folder"))
    return value


Value: TypeAlias = Annotated[
    str | Reference,
    PlainValidator(_value, json_schema_input_type=str | int),
    WithJsonSchema({"type": ["string", "integer"]}),
]
"""The value of an environment variable, or where it is."""


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(durations.of_setting),
    WithJsonSchema({"type": ["string", "number"], "description": "A length of time: 30s, 15m, 2h."}),
]
"""Seconds, written ``30s``."""


class _Common(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    role: Annotated[str, AfterValidator(_role)] | None = None
    runtime: Annotated[str, AfterValidator(_runtime), WithJsonSchema({"enum": list(RUNTIMES)})] | None = None
    model: Annotated[str, Field(max_length=200), AfterValidator(_word)] | None = None
    sandbox: Literal["bubblewrap", "none"] | None = None
    env: dict[str, Value] = {}
    prompt: Annotated[str, Field(max_length=100_000)] | None = None
    account: Annotated[str, AfterValidator(_word)] | None = None
    heartbeat: Duration | None = None
    """How often its runtime is asked whether it is there."""
    freshness: Duration | None = None
    """When nothing was heard of it for so long, it is unknown."""


class Defaults(_Common):
    """What holds for agents whose entry does not say otherwise."""


class AgentEntry(_Common):
    """An agent as roster.yaml describes it."""

    name: Annotated[str, AfterValidator(_name)]
    workspace: Annotated[str, AfterValidator(_folder)] | None = None
    """An absolute path."""
    command: Annotated[tuple[str, ...], AfterValidator(_command)] | None = None
    """The command line of an ACP agent; with the runtime ``custom`` alone."""


class RosterFile(BaseModel):
    """The fleet (roster.yaml)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1] = 1
    defaults: Defaults = Defaults()
    agents: tuple[AgentEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Roster:
    """The agents, defaults filled in, in the order of the file."""

    agents: tuple[AgentEntry, ...] = ()
    defaults: Defaults = field(default_factory=Defaults)

    def get(self, name: str) -> AgentEntry | None:
        """The entry of that agent."""
        return next((entry for entry in self.agents if entry.name == name), None)


def load(path: Path, *, accounts: Mapping[str, Any] | None = None) -> Roster:
    """Read the roster; an absent file is an empty one.

    Args:
        path: the file.
        accounts: the accounts that entries may name; None leaves that unchecked.

    Raises:
        RosterError: it is not valid; one line per problem.
    """
    try:
        return read(path, accounts=accounts)
    except FileProblems as error:
        raise RosterError(str(error)) from None


def read(path: Path, *, accounts: Mapping[str, Any] | None = None) -> Roster:
    """Like `load`, with the problems as values.

    Raises:
        FileProblems: it is not valid.
    """
    try:
        document = yamlfile.read(path)
    except FileNotFoundError:
        return Roster()
    document.drop_empty()
    raw = document.value if isinstance(document.value, dict) else {}
    entries = raw.get("agents")
    if isinstance(entries, list):
        # One by one below, so that a mistake in one hides none in another.
        document.value = {**raw, "agents": []}
    file = document.validate(RosterFile)
    document.value = raw or document.value
    defaults = Defaults() if file is None else file.defaults
    _report_environment(document, ("defaults",), defaults.env)
    _report_freshness(document, ("defaults", "freshness"), defaults)
    agents: list[AgentEntry] = []
    first: dict[str, int] = {}
    for index, written in enumerate(entries if isinstance(entries, list) else ()):
        at = ("agents", index)
        entry = document.validate(AgentEntry, written, at=at)
        if entry is None:
            continue
        if entry.name in first:
            line = document.line(("agents", first[entry.name]))
            document.report((*at, "name"), f"a second agent of this name; the first is in line {line}.")
        first.setdefault(entry.name, index)
        _report_environment(document, at, entry.env)
        agents.append(_filled(entry, defaults))
        if file is not None:
            _report_misfits(document, at, entry, agents[-1], accounts)
    document.check()
    return Roster(tuple(agents), defaults)


def schema() -> dict[str, Any]:
    """The JSON schema of roster.yaml, for editors that complete and check it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RosterFile.model_json_schema()}


def _filled(entry: AgentEntry, defaults: Defaults) -> AgentEntry:
    missing = {
        name: value for name in type(defaults).model_fields
        if name != "env" and getattr(entry, name) is None and (value := getattr(defaults, name)) is not None
    }  # fmt: skip
    if defaults.env:
        missing["env"] = {**defaults.env, **entry.env}
    return entry.model_copy(update=missing) if missing else entry


def _report_misfits(
    document: yamlfile.Document,
    at: tuple[str | int, ...],
    written: AgentEntry,
    entry: AgentEntry,
    accounts: Mapping[str, Any] | None,
) -> None:
    """What an entry says that does not fit the rest of it, the defaults, or muster.yaml."""
    if entry.runtime == "custom" and entry.command is None:
        document.report((*at, "command"), "is missing: the runtime custom needs a command line.")
    if entry.runtime != "custom" and entry.command is not None:
        document.report(
            (*at, "command"), f"goes with runtime: custom alone; the runtime here is {entry.runtime or 'not said'}."
        )
    if written.freshness is not None or written.heartbeat is not None:
        key = "heartbeat" if written.freshness is None else "freshness"
        _report_freshness(document, (*at, key), entry)
    if accounts is not None and entry.account is not None and entry.account not in accounts:
        place = at if written.account is not None else ("defaults",)
        known = f"Known are {', '.join(accounts)}." if accounts else "muster.yaml has no accounts."
        problem_at = (*place, "account")
        document.report(problem_at, f"no account is called {entry.account!r}. {known}")


def _report_freshness(document: yamlfile.Document, at: tuple[str | int, ...], entry: _Common) -> None:
    try:
        liveness.check_freshness(entry.heartbeat, entry.freshness)
    except ValueError as error:
        document.report(at, str(error))


def _report_environment(document: yamlfile.Document, at: Sequence[str | int], env: Mapping[str, Any]) -> None:
    for name, value in env.items():
        place = (*at, "env", name)
        if not _VARIABLE.fullmatch(name):
            document.report(place, "not a name for an environment variable.")
        elif _NOT_TO_SET.fullmatch(name):
            document.report(place, "is Muster's to set. Leave it out.")
        elif isinstance(value, str) and value and _SECRETIVE.search(name):
            document.report(place, f"looks like a secret, and secrets do not stand in this file. {HOW_TO_REFER}")


# --- editing -----------------------------------------------------------------------------------------------------


def check_entry(entry: Mapping[str, Any]) -> None:
    """See whether these keys could stand in the file as an agent.

    Raises:
        RosterError: they could not; the message says what is wrong with which.
    """
    try:
        AgentEntry.model_validate(entry)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, each['loc']))}: {each.get('ctx', {}).get('error') or each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise RosterError("\n".join(wrong)) from None


def add_agent(path: Path, entry: Mapping[str, Any]) -> bool:
    """Add an agent to the file, which is made if it is not there. Comments and order are kept.

    The file as it was stays beside it as ``roster.yaml.bak``. May take seconds for a roster of thousands.

    Args:
        path: the file.
        entry: the keys of the agent, as they are to be written.

    Returns:
        Whether it was added; False when an agent of that name stands there already, and nothing was changed.

    Raises:
        RosterError: the file, or the entry, is not valid, or it cannot be written. The file is as it was.
    """
    path = Path(os.path.realpath(path))
    try:
        with _locked(path):
            if load(path).get(str(entry.get("name"))) is not None:
                return False
            before = path.read_text(encoding="utf-8-sig") if path.exists() else None
            after = _with_entry(HEADER if before is None else before, entry)
            _write(path, after, keep_old=before is not None)
    except OSError as error:
        raise RosterError(f"{path} cannot be written: {error.strerror}. Add the agent to it by hand.") from error
    return True


def _with_entry(text: str, entry: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 10_000
    flush_left = re.search(r"^agents:[^\n]*\n(\s*(#[^\n]*)?\n)*-", text, re.MULTILINE)
    yaml.indent(mapping=2, sequence=2 if flush_left else 4, offset=0 if flush_left else 2)
    content = yaml.load(text)
    if content is None:
        content = CommentedMap()
    agents = content.get("agents")
    if not agents:
        content["agents"] = agents = CommentedSeq()
    agents.append(CommentedMap({key: _writable(value) for key, value in entry.items() if value not in (None, {}, ())}))
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


def _writable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _writable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(each) for each in value]
    return value if isinstance(value, (bool, int, float)) else str(value)


def _write(path: Path, text: str, *, keep_old: bool) -> None:
    """Put the new text in place of the old at once, after reading it back."""
    mode = path.stat().st_mode & 0o777 if keep_old else 0o600
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(mode)
        try:
            read(Path(part))
        except FileProblems as error:
            raise RosterError("\n".join(f"{each.key}: {each.message}" for each in error.problems)) from None
        if keep_old:
            backup = path.with_name(f"{path.name}.bak")
            backup.unlink(missing_ok=True)
            os.link(path, backup)
        with crashpoints.around(WRITE):
            os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
