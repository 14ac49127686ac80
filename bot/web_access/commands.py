"""Commands of the section *web*: browsers that are logged in to the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.auth.permission import VIEWER
from bot.commands.doors import AT_HOME
from bot.commands.registry import Checked, Reply, command
from bot.commands.syntax import command_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bot.commands.context import Context
    from bot.commands.services import CommandServices


async def _shows_the_code(
    services: CommandServices, arguments: dict[str, object], say: Callable[[str], Awaitable[None]]
) -> Checked:
    from bot.web_access import text
    from bot.web_access.sessions_of import find

    login = await find(services, str(arguments["code"]))
    return Checked(note=text.question(login, control=bool(arguments["control"])))


@command(
    "web login",
    permission=VIEWER,
    help_section="web",
    confirm=True,
    undo=f"{command_line('web logout')} ends it.",
    check=_shows_the_code,
    informs=True,
    # A browser does not log in another one.
    doors=AT_HOME | {"chat"},
)
async def web_login(ctx: Context[CommandServices], code: str, *, control: bool = False) -> Reply:
    """Log a browser in to the dashboard as yourself. You see which browser it is before you confirm.

    Without `--control` the browser only watches.

    Args:
        code: the code that the browser shows.
        control: let the browser give commands as you.
    """
    from bot.web_access.sessions_of import log_in

    return await log_in(ctx, code, control=control)


@command("web sessions", permission=VIEWER, help_section="web", audited=False, effects=False)
async def web_sessions(ctx: Context[CommandServices]) -> Reply:
    """List the browsers that are logged in as you; an admin sees everybody's."""
    from bot.web_access.sessions_of import list_sessions

    return await list_sessions(ctx)


@command("web logout", permission=VIEWER, help_section="web")
async def web_logout(ctx: Context[CommandServices], id: str) -> Reply:
    """Log a browser out. Its pages end at once. An admin can log out everybody's.

    Args:
        id: the session, as `web sessions` lists it.
    """
    from bot.web_access.sessions_of import log_out

    return await log_out(ctx, id)
