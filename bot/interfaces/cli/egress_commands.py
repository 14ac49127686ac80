"""What a shell does with the egress itself: run it, look at it, end it, and stop everything at once."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from bot.config.paths import Paths


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
    from bot.setup import offline_egress

    click.echo(offline_egress.cut_off(Paths.of(os.environ), name))
    return 0


@click.command()
@click.argument("name", metavar="NAME")
def egress_restore(name: str) -> int:
    """Open the egress of an agent that was cut off, without Muster or its register."""
    from bot.setup import offline_egress

    click.echo(offline_egress.restore(Paths.of(os.environ), name))
    return 0


@click.command()
@click.option("--clear", is_flag=True, help="End the emergency stop. This asks for a confirmation.")
@click.option("--yes", "confirmed", is_flag=True, help="Do not ask first.")
def estop(clear: bool, confirmed: bool) -> int:
    """Emergency stop: close all agents' egress at once, without Muster or the egress."""
    from bot.setup import offline_egress
    from bot.text.errors import UserError

    paths = Paths.of(os.environ)
    if not clear:
        said = offline_egress.stop_all(paths)
        click.echo(said.text)
        if said.warning:
            click.echo(said.warning, err=True)
        return 0
    if not confirmed:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UserError(
                "`muster estop --clear` lets agents out again. Say --yes if you mean it; nothing was done.",
                code="command.unconfirmed",
            )
        click.confirm("Really end the emergency stop? Agents may go out again", abort=True, err=True)
    click.echo(offline_egress.end_stop(paths))
    return 0


def _place(paths: Paths) -> str:
    from bot.egress_client import process

    return str(process.places(paths).control)
