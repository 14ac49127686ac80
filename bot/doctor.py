"""`muster doctor`: what this machine has, what is missing, what that costs, and how to get it. Changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import http.client
import importlib.util
import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel

from bot import config
from bot.errors import UserError
from bot.lock import holder
from bot.registers import password
from fleet import programs, runtimes
from fleet.sandbox import policy
from register import address, migrations
from register.errors import RegisterError
from register.references import Reference, Unresolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bot.config import Check
    from bot.paths import Paths
    from fleet.problems import Problem

State = Literal["ok", "missing", "wrong", "unknown"]

#: Bytes below which a disk is called nearly full.
LITTLE_SPACE = 1024 * 1024 * 1024
#: Seconds by which a clock may differ from a server's.
CLOCK_SKEW = 60.0
_PATIENCE = 5.0  # seconds for an answer of a program or a server
_NODE = (20, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    """ok; missing, where Muster does without; wrong, where it does not; unknown, where it could not be told."""
    found: str
    costs: str = ""
    """What does not work without it."""
    way: str = ""
    """How to get it."""

    def to_json(self) -> dict[str, str]:
        """As ``--json`` prints it."""
        return dataclasses.asdict(self)


def examine(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    which: Callable[[str], str | None] = shutil.which,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Look at everything. Blocking; takes seconds, more when a homeserver does not answer."""
    checked = _configured(paths)
    findings = [
        python(sys.version_info[:3]),
        *_programs(which),
        bubblewrap(policy.available()),
        *_agents(which),
        keyring(),
        *_configuration(checked, paths),
        *_secrets(checked, environ),
        register(checked, paths, environ),
        sockets(paths),
        disk(paths),
        *_homeservers(checked, clock),
        running(paths),
    ]
    return findings


def text(findings: Sequence[Finding]) -> str:
    """For a person."""
    width = max(len(finding.name) for finding in findings)
    marks = {"ok": "ok     ", "missing": "missing", "wrong": "WRONG  ", "unknown": "unknown"}
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.state]}  {finding.name:<{width}}  {finding.found}")
        pad = " " * (len(marks["ok"]) + width + 4)
        lines += [f"{pad}{each}" for each in (finding.costs, finding.way) if each and finding.state != "ok"]
    wrong = sum(finding.state == "wrong" for finding in findings)
    end = (
        "Muster can run here."
        if not wrong
        else f"{wrong} thing{'' if wrong == 1 else 's'} must be mended before all of this configuration works."
    )
    return "\n".join([*lines, "", end])


def exit_status(findings: Sequence[Finding]) -> int:
    """1 when something is wrong; what is only missing is the person's choice."""
    return int(any(finding.state == "wrong" for finding in findings))


# --- the machine -------------------------------------------------------------------------------------------------


def python(version: tuple[int, ...]) -> Finding:
    shown = ".".join(map(str, version))
    if version >= (3, 11):
        return Finding(name="Python", state="ok", found=shown)
    return Finding(name="Python", state="wrong", found=shown, way="Install Python 3.11 or newer.")


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    arguments: tuple[str, ...]
    costs: str
    way: str
    least: tuple[int, ...] = ()


_PROGRAMS = (
    _Program("git", ("--version",), "Agents have no repositories to work in.", "Install the package git."),
    _Program("tmux", ("-V",), "You cannot look into a running agent's terminal.", "Install the package tmux."),
    _Program(
        "podman",
        ("--version",),
        "No containers as sandboxes; bubblewrap does without.",
        "Install the package podman, or Docker.",
    ),
    _Program(
        "node",
        ("--version",),
        "Claude Code, Codex and pi do not run; opencode and the built-in agent do.",
        "Install Node.js 22 or newer (20 is enough for Claude Code and Codex).",
        _NODE,
    ),
    _Program("npm", ("--version",), "Agents' programs cannot be installed from here.", "It comes with Node.js."),
)


def _programs(which: Callable[[str], str | None]) -> Iterator[Finding]:
    for program in _PROGRAMS:
        place = which(program.name)
        if place is None and program.name == "podman":
            place = which("docker")
        if place is None:
            yield Finding(name=program.name, state="missing", found="not found", costs=program.costs, way=program.way)
            continue
        said = version_of([place, *program.arguments])
        numbers = tuple(map(int, re.findall(r"\d+", said or "")[:3]))
        if said is None:
            yield Finding(
                name=program.name,
                state="wrong" if program.name == "git" else "missing",
                found=f"{place} does not answer",
                costs=program.costs,
                way=program.way,
            )
        elif numbers < program.least:
            yield Finding(name=program.name, state="missing", found=said, costs=program.costs, way=program.way)
        else:
            yield Finding(name=program.name, state="ok", found=said)


def version_of(command: Sequence[str]) -> str | None:
    """The first line that a program says of itself; None when it fails."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    line = "".join(sign for sign in lines[0] if sign.isprintable())[:80] if lines else ""
    return line if done.returncode == 0 and line else None


def bubblewrap(found: policy.Availability) -> Finding:
    if found.works:
        return Finding(name="bubblewrap", state="ok", found="works here")
    return Finding(
        name="bubblewrap",
        state="missing",
        found="does not work here",
        costs="Agents have no sandbox: each must be started with sandbox: none, and could then give Muster orders.",
        way=found.reason,
    )


def _agents(which: Callable[[str], str | None]) -> Iterator[Finding]:
    for runtime in runtimes.RUNTIMES.values():
        if runtime.name in ("sim", "custom"):
            continue
        missing = []
        for name in (runtime.program, *runtime.needs.values()):
            try:
                programs.find(name, which)
            except programs.NotFound as error:
                missing.append(error.name)
        if not missing:
            yield Finding(name=runtime.name, state="ok", found=str(which(runtime.program)))
        else:
            yield Finding(
                name=runtime.name,
                state="missing",
                found=f"{' and '.join(dict.fromkeys(missing))} not found",
                costs=f"No agents on {runtime.title}.",
                way=runtime.install,
            )


def keyring() -> Finding:
    if importlib.util.find_spec("keyring") is not None:
        return Finding(name="keyring", state="ok", found="installed")
    return Finding(
        name="keyring",
        state="missing",
        found="not installed",
        costs="No keyring:NAME in muster.yaml; env: and file: work.",
        way="pip install 'muster-fleet[keyring]'",
    )


# --- the installation --------------------------------------------------------------------------------------------


def _configured(paths: Paths) -> Check:
    return config.check(paths)


def _configuration(checked: Check, paths: Paths) -> Iterator[Finding]:
    if checked.problems:
        count = len(checked.problems)
        yield Finding(
            name="configuration",
            state="wrong",
            found=f"{count} problem{'' if count == 1 else 's'}; the first: {checked.problems[0]}",
            costs=_cost_of(checked.problems),
            way="muster config check lists them all.",
        )
    elif not paths.muster_yaml.exists():
        yield Finding(
            name="configuration",
            state="ok",
            found=f"{paths.muster_yaml} is not there, so all is as by default; `muster init` writes one",
        )
    else:
        agents = len(checked.roster.agents) if checked.roster else 0
        yield Finding(name="configuration", state="ok", found=f"valid, agents in the roster: {agents}")
    for warning in checked.warnings:
        yield Finding(name="configuration", state="wrong", found="open to others", costs=warning)
    for name, reason in (checked.settings.broken if checked.settings else {}).items():
        yield Finding(name=f"connector {name}", state="wrong", found="cannot be used", costs=reason)


def _cost_of(problems: Sequence[Problem]) -> str:
    if any(problem.file.startswith("muster.yaml") for problem in problems):
        return "Muster does not start."
    return "The roster is not applied, and its persistent agents do not come up."


def _secrets(checked: Check, environ: Mapping[str, str]) -> Iterator[Finding]:
    for place, reference in references(checked):
        if reference.scheme == "file" and (open_ := _readable_by_others(Path(reference.name))):
            yield Finding(name=place, state="wrong", found=open_, way=f"chmod 600 {reference.name}")
            continue
        try:
            reference.resolve(environ)
        except Unresolved as error:
            yield Finding(name=place, state="wrong", found=str(error), costs="Whoever needs it cannot log in.")
        else:
            yield Finding(name=place, state="ok", found=f"{reference} holds a secret")


def references(checked: Check) -> list[tuple[str, Reference]]:
    """The references of both files, by their keys."""
    found: list[tuple[str, Reference]] = []

    def walk(place: str, value: Any) -> None:
        if isinstance(value, Reference):
            found.append((place, value))
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                walk(f"{place}.{name}", getattr(value, name))
        elif isinstance(value, dict):
            for name, each in value.items():
                walk(f"{place}.{name}", each)
        elif isinstance(value, tuple):
            for index, each in enumerate(value):
                walk(f"{place}[{index}]", each)

    if checked.settings is not None:
        for connector in checked.settings.connectors:
            walk(f"connectors.{connector.name}", connector.settings)
        walk("accounts", dict(checked.settings.accounts))
        walk("register.password", checked.settings.register_password)
    for agent in checked.roster.agents if checked.roster else ():
        walk(f"agents[{agent.name}].env", agent.env)
    return found


def _readable_by_others(path: Path) -> str | None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    return f"{path} can be read by other users (mode {mode:04o})" if mode & 0o077 else None


def register(checked: Check, paths: Paths, environ: Mapping[str, str] | None = None) -> Finding:
    """Look into the register without changing it."""
    place = address.parse(checked.settings.register_url if checked.settings else paths.register_url)
    if isinstance(place, address.ServerAddress):
        reference = checked.settings.register_password if checked.settings else None
        return _register_on_a_server(place, password(reference, os.environ if environ is None else environ))
    file = place.file
    if not file.exists():
        return Finding(name="register", state="ok", found=f"{file} will be made at the first start")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=_PATIENCE)) as database:
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        return Finding(
            name="register",
            state="wrong",
            found=f"{file} cannot be read: {error}",
            costs="Muster does not start.",
            way="Restore it from a backup, or move it away to begin with an empty one.",
        )
    newer = "" if revision == migrations.head() else f", at revision {revision}; this program's is {migrations.head()}"
    return Finding(name="register", state="ok", found=f"{file} opens{newer}")


def _register_on_a_server(place: address.ServerAddress, secret: Callable[[], str] | None) -> Finding:
    from register.database_server import survey as look

    try:
        survey = asyncio.run(look(place, secret))
    except RegisterError as error:
        return Finding(name="register", state="wrong", found=str(error), costs="Muster does not start.")
    shown = f"{place} (PostgreSQL {survey.version})"
    if survey.open_to_all:
        return Finding(
            name="register",
            state="wrong",
            found=f"{shown} takes any password",
            costs="An agent can reach it over the network, and make anybody an admin.",
            way="Let pg_hba.conf ask for a password (scram-sha-256 instead of trust).",
        )
    if not survey.durable:
        return Finding(
            name="register",
            state="wrong",
            found=f"{shown} does not wait for its disk",
            costs="A power cut can take what was said and done, or damage all of it.",
            way="Set fsync = on in postgresql.conf.",
        )
    if survey.revision is None:
        return Finding(name="register", state="ok", found=f"{shown}; its tables will be made at the first start")
    older = "" if survey.revision == migrations.head() else f", at revision {survey.revision}"
    return Finding(name="register", state="ok", found=f"{shown} opens{older}")


def sockets(paths: Paths) -> Finding:
    """Whether a unix socket can be made where Muster makes its own."""
    folder = paths.sockets
    if not folder.exists():
        return Finding(name="sockets", state="ok", found=f"{folder} will be made at the first start")
    try:
        paths.check_sockets()
        trial = folder / f"trial-{os.getpid()}.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                listening.bind(str(trial))
            finally:
                trial.unlink(missing_ok=True)
    except (OSError, UserError) as error:
        return Finding(
            name="sockets",
            state="wrong",
            found=f"none can be made in {folder}: {error}",
            costs="Muster does not start.",
            way="Set MUSTER_HOME to a folder of your own on a local disk.",
        )
    return Finding(name="sockets", state="ok", found=str(folder))


def disk(paths: Paths, *, free: int | None = None) -> Finding:
    place = paths.state
    while not place.exists():
        place = place.parent
    left = shutil.disk_usage(place).free if free is None else free
    shown = f"{left / LITTLE_SPACE:.1f} GiB free for {paths.state}"
    if left >= LITTLE_SPACE:
        return Finding(name="disk", state="ok", found=shown)
    return Finding(
        name="disk",
        state="wrong",
        found=shown,
        costs="When nothing is left, Muster takes no more messages and denies what agents ask for.",
        way="Make room.",
    )


def running(paths: Paths) -> Finding:
    found = holder(paths.lock) if paths.lock.exists() else None
    if found is None:
        return Finding(name="Muster", state="ok", found="not running")
    return Finding(name="Muster", state="ok", found=f"running (process {found.pid} on {found.host})")


# --- the network -------------------------------------------------------------------------------------------------


def _homeservers(checked: Check, clock: Callable[[], float]) -> Iterator[Finding]:
    for connector in checked.settings.connectors if checked.settings else ():
        address = getattr(connector.settings, "homeserver", None)
        if isinstance(address, str):
            finding, skew = homeserver(connector.name, address, clock)
            yield finding
            if skew is not None:
                yield clock_against(address, skew)


def homeserver(name: str, address: str, clock: Callable[[], float] = time.time) -> tuple[Finding, float | None]:
    """Whether a Matrix homeserver answers, and by how many seconds our clock is ahead of its."""
    parts = urlsplit(address)
    title = f"connector {name}"
    costs = "This connector waits and tries again; the others go on."
    made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(made(parts.hostname or "", parts.port, timeout=_PATIENCE)) as connection:
            connection.request("GET", f"{parts.path}/_matrix/client/versions")
            answer = connection.getresponse()
            body = answer.read(1_000_000)
            date = answer.headers.get("Date")
    except ssl.SSLError as error:
        way = "Mend the homeserver's certificate, or check the address."
        return Finding(name=title, state="wrong", found=f"{address}: {error}", costs=costs, way=way), None
    except (OSError, http.client.HTTPException) as error:
        found = f"{address} does not answer: {error or type(error).__name__}"
        way = "Check the address in muster.yaml, and that the homeserver runs."
        return Finding(name=title, state="wrong", found=found, costs=costs, way=way), None
    try:
        versions = json.loads(body)["versions"]
        newest = str(versions[-1])
    except (ValueError, KeyError, TypeError, IndexError):
        found = f"{address} answers {answer.status}, but not as a Matrix homeserver does"
        way = "Give the address of the client API; it can differ from the name in user ids."
        return Finding(name=title, state="wrong", found=found, costs=costs, way=way), None
    skew = None
    if date is not None:
        try:
            skew = clock() - email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            skew = None
    return Finding(name=title, state="ok", found=f"{address} answers (Matrix {newest[:20]})"), skew


def clock_against(address: str, skew: float) -> Finding:
    if abs(skew) <= CLOCK_SKEW:
        return Finding(name="clock", state="ok", found=f"agrees with {address}")
    return Finding(
        name="clock",
        state="wrong",
        found=f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {address}",
        costs="Times in chat and expiries are off, and certificates may seem invalid.",
        way="Let the system keep its clock by the network (timedatectl set-ntp true).",
    )
