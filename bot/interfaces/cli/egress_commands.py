"""What a shell does with the egress itself: run it, look at it, end it, and stop everything at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

import click

from bot.config.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    class _Ask(Protocol):
        """One request to the egress, signed where it changes something."""

        def __call__(self, method: str, path: str, **wanted: str) -> dict[str, Any]: ...


@click.command()
@click.option("--detach", is_flag=True, help="Run in the background and return once it listens.")
def egress(detach: bool) -> int:
    """Run this machine's egress in the foreground. Muster starts it by itself when needed.

    The egress is the only way out of agents' sandboxes. It serves the agents and limits that it was told last, whether
    Muster
    runs or not.
    """
    import asyncio

    from bot.config.loader import load
    from bot.egress_client import process

    paths = Paths.of(os.environ)
    paths.prepare()
    secrets = process.variables_of(load(paths))
    if detach:
        import logging

        import structlog

        source = process.EgressProcess(paths, os.environ, secrets)

        async def start() -> bool:
            there = await source.find() is not None
            await source.start()
            await source.aclose()
            return there

        before = structlog.get_config()
        # Log messages are not for people.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        try:
            there = asyncio.run(start())
        finally:
            structlog.configure(**before)
        click.echo(f"The egress {'runs already' if there else 'runs in the background'}: {_place(paths)}.")
        return 0
    if process.listens(process.places(paths).control):
        from bot.text.errors import UserError

        raise UserError("An egress runs here already. `muster egress stop` ends it.", code="egress.running")
    click.echo(f"The egress logs to {process.places(paths).log}. Ctrl-C ends it.", err=True)
    os.execve(sys.executable, process.command(paths), process.environment_of(os.environ, secrets))  # noqa: S606
    return 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it for programs.")
def egress_status(as_json: bool) -> int:
    """Show whether the egress runs, whom it serves and its open requests. Exit status 1: it is down, or blocked."""
    import asyncio
    import json

    from bot.egress_client import emergency_stop, process
    from bot.text.timestamps import timestamp
    from egress.daemon.control_client import EgressControlClient
    from egress.errors import EgressSilent

    paths = Paths.of(os.environ)
    control = process.places(paths).control

    async def look() -> dict[str, Any] | None:
        if not process.listens(control):
            return None
        async with EgressControlClient(control) as client:
            return await client.status()

    silent = False
    try:
        found = asyncio.run(look())
    except EgressSilent:
        found, silent = None, True
    if found is not None:
        found = {**found, "since": timestamp(found.get("since"))}
    unwritable = (found or {}).get("unwritable")
    pulled = emergency_stop.is_pulled(paths.state)
    if as_json:
        click.echo(
            json.dumps(
                {"running": silent or found is not None, "silent": silent, "estop": pulled, "status": found}, indent=2
            )
        )
    elif silent:
        click.echo(
            f"{process.silent(process.pid_of(paths))} If Muster runs, it kills the egress by itself and starts another."
        )
    elif found is None:
        click.echo("The egress does not run.")
    else:
        agents = ", ".join(map(str, found.get("agents") or [])) or "none"
        click.echo(f"The egress runs (process {found.get('pid')}), {found.get('streams')} requests under way.")
        click.echo(f"It serves: {agents}")
        if unwritable:
            click.echo(f"Nothing is let out: {unwritable}")
    if pulled and not as_json:
        click.echo("The emergency stop holds: nothing leaves. `muster estop --clear` ends it.")
    return 0 if found is not None and not unwritable else 1


@click.command()
def egress_stop() -> int:
    """Stop the egress. Sandboxed agents reach nothing until it runs again; Muster starts it if Muster runs."""
    import asyncio

    from bot.egress_client import process

    ended = asyncio.run(process.stop(Paths.of(os.environ)))
    click.echo("The egress is stopped." if ended else "The egress does not run.")
    return 0


@click.command()
@click.argument("name", metavar="NAME")
def egress_cutoff(name: str) -> int:
    """Close an agent's egress directly, without Muster or its register."""
    click.echo(close_directly(Paths.of(os.environ), name))
    return 0


@click.command()
@click.argument("name", metavar="NAME")
def egress_restore(name: str) -> int:
    """Open the egress of an agent that was cut off, without Muster or its register."""
    click.echo(open_directly(Paths.of(os.environ), name))
    return 0


def close_directly(paths: Paths, name: str) -> str:
    """Cut an agent off past Muster, which enters it into the audit once it can; what to say of it.

    Whoever may connect to the egress's control socket owns this installation, and is its admin.

    Raises:
        MusterError: the egress does not run, does not know the agent, or did not do it.
    """

    def act(ask: _Ask) -> str:
        _known(name, ask("GET", "/status").get("agents") or [])
        streams = ask("POST", "/deny", agent=name, action="cutoff", cause="")["streams"]
        ended = "" if not streams else f" {streams} request{'s' if streams > 1 else ''} ended in the middle."
        return f"Nothing of {name} leaves any more.{ended} `muster egress restore {name}` opens it again."

    return _directly(paths, act)


def open_directly(paths: Paths, name: str) -> str:
    """Let an agent out again past Muster; return what to say of it. It raises what `close_directly` raises."""

    from bot.auth.owner import owner_identity

    def act(ask: _Ask) -> str:
        denials = ask("GET", "/standing").get("denials") or []
        if name not in [str(each.get("agent")) for each in denials]:
            _known(name, ask("GET", "/status").get("agents") or [])
            return f"{name} was not cut off; nothing was changed."
        ask("POST", "/allow", agent=name, cause=f"restored by {owner_identity()}")
        return f"{name} may go out again."

    return _directly(paths, act)


def _directly(paths: Paths, act: Callable[[_Ask], str]) -> str:
    import secrets

    from bot.auth.owner import owner_identity
    from bot.egress_client import emergency_stop
    from egress.daemon import sync_control_client
    from egress.errors import EgressAbsent

    control = _control(paths)
    signature = {"by": owner_identity(), "id": f"shell/{secrets.token_hex(8)}"}

    def ask(method: str, path: str, **wanted: str) -> dict[str, Any]:
        return sync_control_client.request(control, method, path, {**wanted, **signature} if wanted else None)

    try:
        said = act(ask)
    except EgressAbsent:
        raise EgressAbsent(
            "The egress does not run, so no agent in a sandbox reaches anything now. `muster estop` stops all, also "
            "after it starts again."
        ) from None
    held = (
        " The emergency stop holds all the same: `muster estop --clear` ends it."
        if emergency_stop.is_pulled(paths.state)
        else ""
    )
    return f"{said}{held}"


def _control(paths: Paths) -> Path:
    """The egress's control socket. `bot.egress_client.process` knows it too, and takes half a second to import."""
    from egress.paths import EgressPaths

    return EgressPaths(state=paths.state, sockets=paths.sockets).control


def _known(name: str, served: Sequence[str]) -> None:
    if name not in served:
        from bot.text.errors import UserError
        from core.validation_errors import suggestion

        there = f"It serves {', '.join(served)}." if served else "It serves nobody."
        raise UserError(
            f"The egress serves no agent called {name[:40]!r}.{suggestion(name, served)} {there} Nothing was changed.",
            code="agent.unknown",
        )


@click.command()
@click.option("--clear", is_flag=True, help="End the emergency stop. This asks for a confirmation.")
@click.option("--yes", "confirmed", is_flag=True, help="Do not ask first.")
def estop(clear: bool, confirmed: bool) -> int:
    """Emergency stop: close all agents' egress at once, without Muster or the egress."""
    import time

    from bot.auth.owner import owner_identity
    from bot.egress_client import emergency_stop
    from bot.text.errors import UserError
    from bot.text.timestamps import timestamp
    from egress.daemon import sync_control_client
    from egress.errors import EgressAbsent, EgressRefused, EgressUnreachable

    paths = Paths.of(os.environ)
    if clear and not confirmed:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UserError(
                "`muster estop --clear` lets agents out again. Say --yes if you mean it; nothing was done.",
                code="command.unconfirmed",
            )
        click.confirm("Really end the emergency stop? Agents may go out again", abort=True, err=True)
    held = emergency_stop.is_pulled(paths.state)
    unkept: Exception | None = None
    if not clear:
        try:
            paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            emergency_stop.pull(paths.state, by=owner_identity(), at=str(timestamp(time.time())))
        except (UserError, OSError) as error:
            # A running egress can still stop.
            unkept = error
    control = _control(paths)
    runs, heard = True, False
    try:
        if clear:
            # The egress can hold the stop without its file.
            held = bool(sync_control_client.request(control, "GET", "/standing").get("estop")) or held
            # Clear the egress first, so that the audit log names the person.
            sync_control_client.request(
                control, "POST", "/estop/clear", {"cause": "muster estop --clear", "by": owner_identity()}
            )
        else:
            sync_control_client.request(control, "POST", "/estop", {"cause": "muster estop", "by": owner_identity()})
        heard = True
    except EgressAbsent:
        runs = False
    except EgressRefused:
        if unkept is not None:
            # Its message says how long its stop lasts.
            raise
    except EgressUnreachable:
        pass
    if unkept is not None and not heard:
        raise unkept
    if clear:
        emergency_stop.release(paths.state)
        click.echo("The emergency stop is over." if held else "There was no emergency stop.")
        return 0
    click.echo("Everything is stopped: no agent gets out. `muster estop --clear` ends it.")
    if runs and not heard:
        click.echo("The egress did not answer; it looks at the file before it lets anything out.", err=True)
    return 0


def _place(paths: Paths) -> str:
    from bot.egress_client import process

    return str(process.places(paths).control)
