"""A runtime, made ready for one agent: its programs found, its environment built, its home made."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fleet import program_lookup
from fleet.errors import FleetError, RuntimeMissing
from fleet.program_lookup import Which
from fleet.runtimes import agent_home
from fleet.runtimes import base_environment as environments
from fleet.runtimes.declaration import AccountLike, Runtime, RuntimeRequest
from fleet.runtimes.login_copy import take_login


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A runtime, ready for one agent."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    """The whole of it."""
    models: str
    session_meta: Mapping[str, Any]
    aside_meta: Mapping[str, Any]
    session_mode: str | None
    hints: Mapping[str, str]
    readonly: tuple[Path, ...]
    """Files and folders that a sandbox has to show, unchangeable."""
    terminal: tuple[str, ...] = ()
    """The command line of its own terminal program (`RuntimeNeeds.terminal`); empty: none is known."""
    locked: tuple[Path, ...] = ()
    """Such as lie in the home, which for the rest can be changed."""


def prepare(
    runtime: Runtime,
    *,
    home: Path,
    workspace: Path,
    model: str | None,
    command: Sequence[str] | None = None,
    account: AccountLike | None = None,
    extra_environment: Mapping[str, str] | None = None,
    login: Path | None = None,
    which: Which = shutil.which,
    environ: Mapping[str, str] = os.environ,
    sandboxed: bool = False,
    password: Callable[[], str] = secrets.token_urlsafe,
    context: int | None = None,
    without_login: bool = False,
    elsewhere: bool = False,
) -> Prepared:
    """Make a runtime ready for one agent.

    Args:
        home: the agent's own, already there.
        command: the command line, of the runtime custom alone; ``{model}`` in it becomes the model.
        account: whose key it uses; without one, its own login.
        extra_environment: what the roster adds.
        login: the home in which `login_command` was run for this runtime.
        which: finds a program on the PATH.
        environ: where language, time zone and certificates are taken from, and nothing else.
        sandboxed: whether it sees nothing of what is around its workspace.
        password: draws a word that no one can guess.
        context: tokens that its conversation is bound to; None: no one said.
        without_login: a login that its home holds from an earlier start is taken out of it.
        elsewhere: its programs are not this host's but a container's, where they are called by their names.

    Raises:
        RuntimeMissing: a program is not installed; the message says how to install it.
        FleetError: the runtime cannot do what is asked of it.
    """
    line = _line(runtime, command, model)
    look = _named if elsewhere else found
    program = look(runtime, line[0], which)
    needed = {variable: look(runtime, name, which) for variable, name in runtime.needs.items()}
    if account is not None and account.provider not in runtime.providers:
        raise FleetError(
            f"{runtime.title} cannot use an account with {account.provider}; it takes "
            f"{' or '.join(runtime.providers)}.",
            code="account.wrong_provider",
        )
    asked = RuntimeRequest(
        home=home,
        workspace=workspace,
        sandboxed=sandboxed,
        model=model,
        provider=account.provider if account is not None else None,
        key=account.secret() if account is not None else None,
        base_url=account.base_url if account is not None else None,
        context=context,
        password=password(),
    )
    answer = runtime.answer(asked)
    before_start(runtime, home, workspace, sandboxed=sandboxed)
    with _usable(home):
        if runtime.login_file and without_login:
            agent_home.remove(home, PurePosixPath(runtime.login_file))
        for name, content in answer.locked.items():
            agent_home.renew(home, PurePosixPath(name), folder=False)
            agent_home.place(home, PurePosixPath(name), content)
        for name, keys in answer.noted.items():
            agent_home.note(home, PurePosixPath(name), keys)
        if runtime.login_file and login is not None and asked.key is None and not without_login:
            take_login(home, login, PurePosixPath(runtime.login_file))
    folders = [part.folder for part in (program, *needed.values()) if part.folder is not None]
    ours = answer.variables
    environment = {
        **environments.base(home, environ, folders),
        **ours,
        **{variable: part.command[-1] for variable, part in needed.items()},
        **(extra_environment or {}),
    }
    preloaded = ours.get("NODE_OPTIONS")
    if preloaded is not None and environment["NODE_OPTIONS"] != preloaded:
        # What is preloaded keeps a repository from running programs: the roster adds to it, and cannot replace it.
        environment["NODE_OPTIONS"] = f"{preloaded} {environment['NODE_OPTIONS']}"
    readonly = (*program.readonly, *(path for part in needed.values() for path in part.readonly), *answer.readonly)
    return Prepared(
        command=(*program.command, *line[1:]),
        environment=environment,
        models="environment" if model else "none",
        session_meta=answer.session_meta,
        aside_meta=answer.aside_meta or answer.session_meta,
        session_mode=runtime.session_mode,
        hints=runtime.hints,
        readonly=tuple(dict.fromkeys(readonly)),
        terminal=(*_terminal_program(runtime, program), *answer.terminal) if answer.terminal else (),
        locked=tuple(home / name for name in (*runtime.locked, *answer.locked)),
    )


def before_start(runtime: Runtime, home: Path, workspace: Path, *, sandboxed: bool) -> None:
    """Look at a workspace and renew a home, before a program of the runtime is started with them.

    The agent host does it again before each start of its own: the agent may have written in both since.

    Raises:
        FleetError: the runtime must not start there; the message says why and what to do.
    """
    if runtime.check is not None:
        runtime.check(workspace, sandboxed)
    with _usable(home):
        furnish(runtime, home)


@contextlib.contextmanager
def _usable(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FleetError(
            f"The agent's home {home} cannot be made ready: {error.strerror or error}. The agent may have closed it, "
            "or the disk is full; look at it.",
            code="home.unusable",
        ) from None


def furnish(runtime: Runtime, home: Path) -> None:
    """Make what a runtime wants to find in its home, and make again what an agent shall not have filled."""
    for name in ("tmp", *runtime.folders):
        agent_home.make_folder(home, PurePosixPath(name))
    for name in (*runtime.fresh, *runtime.locked):
        agent_home.renew(home, PurePosixPath(name), folder=name.endswith("/"))
    for name, content in runtime.placed.items():
        agent_home.place(home, PurePosixPath(name), content)


def found(runtime: Runtime, name: str, which: Which) -> program_lookup.Program:
    """Look up a program of the runtime.

    Raises:
        RuntimeMissing: it is not installed; the message says how to install it.
    """
    try:
        return program_lookup.find(name, which)
    except program_lookup.ProgramNotFound as missing:
        if not runtime.program:
            raise RuntimeMissing(f"There is no program {missing.name}. Check the command in the roster.") from None
        raise RuntimeMissing(
            f"{runtime.title} is not installed: there is no program {missing.name} on the PATH. "
            f"Install it with: {runtime.install}"
        ) from None


def _named(runtime: Runtime, name: str, which: Which) -> program_lookup.Program:
    """Return a program that is there, or is not, in a container.

    Raises:
        RuntimeMissing: it is Muster's own, and so it is not.
    """
    if name == sys.executable:
        raise RuntimeMissing(
            f"The container's image does not have {runtime.title}, which runs on this machine's Python. Take a sandbox "
            "profile with `image: host`, or another runtime."
        )
    return program_lookup.Program((name,), (), None)


def _terminal_program(runtime: Runtime, program: program_lookup.Program) -> tuple[str, ...]:
    return program.command if runtime.terminal_program is None else (runtime.terminal_program,)


def _line(runtime: Runtime, command: Sequence[str] | None, model: str | None) -> tuple[str, ...]:
    if runtime.program:
        return (runtime.program, *runtime.arguments)
    if not command:
        raise FleetError(
            "The runtime custom needs a command line: command: [program, argument] in the roster.",
            code="runtime.no_command",
        )
    if model and not any("{model}" in word for word in command):
        raise FleetError(
            f"The command line of this agent has no place for the model {model!r}: write {{model}} where it belongs.",
            code="runtime.no_command",
        )
    return tuple(word.replace("{model}", model) if model else word for word in command)
