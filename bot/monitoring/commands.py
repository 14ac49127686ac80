"""Commands of the section *admin*: help, health, operators, devices, audit and telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import ADMIN, VIEWER
from bot.commands.argument_types import CommandWords, Duration
from bot.commands.registry import Reply, command

if TYPE_CHECKING:
    from bot.agents.services import AgentServices
    from bot.commands.context import Context

#: Maximum number of audit lines shown.
_AUDIT_LINES = 200


@command("help", permission=VIEWER, help_section="admin", effects=False, audited=False)
async def help_(ctx: Context[AgentServices], name: CommandWords | None = None) -> Reply:
    """List your commands, or explain one.

    Args:
        name: the command to explain, or `all` for what each of them does.
    """
    from bot.commands import help as command_help
    from bot.commands.syntax import command_line, prefix_of

    chat = ctx.door == "chat"
    prefix = prefix_of(ctx.door, ctx.services.command_prefix)
    table = ctx.services.table
    if name is None and chat:
        return Reply(command_help.names(table, ctx.permission))
    word = "" if name is None else name.casefold().removeprefix(prefix.strip()).strip()
    if word in {"", command_help.ALL}:
        text = command_help.overview(table, ctx.permission, chat=chat)
        # A chat shows the text alone.
        return Reply(text, None if chat else command_help.as_json(table.visible(ctx.permission)))
    if chat and word in command_help.CHAT_WORDS:
        return Reply(f"{command_line(f'{word} [ID]')}\n\n{command_help.CHAT_WORDS[word]}")
    found = command_help.find(table, word, ctx.permission)
    text = "\n\n".join(command_help.explanation(command, table) for command in found)
    return Reply(text, command_help.as_json(found))


@command("health", permission=VIEWER, help_section="admin", effects=False, audited=False)
async def health(ctx: Context[AgentServices]) -> Reply:
    """Show the health of Muster itself: connections, register, disks, egress, jobs, and agents by state."""
    from bot.monitoring import health_view

    report = await health_view.report(ctx.services)
    return Reply(health_view.text(report), report)


@command("whoami", permission=VIEWER, help_section="admin", effects=False, audited=False)
async def whoami(ctx: Context[AgentServices]) -> Reply:
    """Show your identity and your permission."""
    from bot.text.markdown import code

    by = "" if ctx.through is None else f", as one of {code(ctx.through)}"
    return Reply(
        f"You are {code(ctx.identity)} with the permission {ctx.permission}{by}.",
        {"identity": ctx.identity, "permission": str(ctx.permission), "through": ctx.through, "door": ctx.door},
    )


@command("operators", permission=ADMIN, help_section="admin", effects=False)
async def operators(ctx: Context[AgentServices]) -> Reply:
    """List everyone's permissions, and where each was set."""
    from bot.text.markdown import code, table

    found = await ctx.services.operators.every()
    sources = {"owner": "runs Muster", "file": "muster.yaml"}
    rows = [
        [
            code(operator.identity),
            str(operator.permission),
            sources.get(operator.source, f"set by {operator.set_by}"),
        ]
        for operator in found
    ]
    listed = [
        {
            "identity": operator.identity,
            "permission": str(operator.permission),
            "source": operator.source,
            "set_by": operator.set_by,
            "set_at": ctx.services.timestamp(operator.set_at),
        }
        for operator in found
    ]
    return Reply(table(["identity", "permission", "from"], rows), listed)


@command("operator set", permission=ADMIN, help_section="admin")
async def operator_set(
    ctx: Context[AgentServices], identity: str, permission: Literal["none", "viewer", "operator", "admin"]
) -> Reply:
    """Give or take away a permission. This overrides muster.yaml.

    Args:
        identity: the connector and the person, such as matrix:@ana:example.org.
        permission: the new permission; none takes it away.
    """
    from bot.config import identities
    from bot.text.errors import UserError
    from bot.text.markdown import code
    from database.queries.chat.operator_permissions import OperatorRow

    settings = ctx.services.settings
    # Permissions on a connector that no longer exists can still be taken away.
    if permission != "none":
        problem = identities.problem(identity, identities.configured(settings))
        if problem is not None:
            raise UserError(problem, code="operator.invalid")
    row = OperatorRow(identity=identity, permission=permission, set_by=ctx.identity, set_at=ctx.services.clock())
    await ctx.commit("set", lambda tx: ctx.services.operators.put(tx, row))
    ctx.services.operators.refresh()
    said = "may do nothing here any more" if permission == "none" else f"has the permission {permission} now"
    return Reply(f"{code(identity)} {said}.", {"identity": identity, "permission": permission})


@command("matrix devices", permission=ADMIN, help_section="admin", effects=False)
async def matrix_devices(ctx: Context[AgentServices], *, connector: str | None = None) -> Reply:
    """List Muster's own device and people's devices in encrypted rooms, and which of them get keys.

    Args:
        connector: only this connector.
    """
    from bot.messaging import device_trust

    return await device_trust.listed(ctx, connector)


@command("matrix trust", permission=ADMIN, help_section="admin")
async def matrix_trust(ctx: Context[AgentServices], device: str, *, connector: str | None = None) -> Reply:
    """Trust a device whose fingerprint you compared.

    Args:
        device: its id, from `matrix devices`; PERSON/ID if several people have a device with that id.
        connector: the connector, if there are several.
    """
    from bot.messaging import device_trust

    return await device_trust.judged(ctx, device, connector, "trusted")


@command("matrix block", permission=ADMIN, help_section="admin")
async def matrix_block(ctx: Context[AgentServices], device: str, *, connector: str | None = None) -> Reply:
    """Give a device no more keys, and ignore what is written on it.

    Args:
        device: its id, from `matrix devices`; PERSON/ID if several people have a device with that id.
        connector: the connector, if there are several.
    """
    from bot.messaging import device_trust

    return await device_trust.judged(ctx, device, connector, "blocked")


@command("matrix forget", permission=ADMIN, help_section="admin")
async def matrix_forget(ctx: Context[AgentServices], device: str, *, connector: str | None = None) -> Reply:
    """Forget a device's keys. The next keys under its name become its own.

    Args:
        device: its id, from `matrix devices`; PERSON/ID if several people have a device with that id.
        connector: the connector, if there are several.
    """
    from bot.messaging import device_trust

    return await device_trust.judged(ctx, device, connector, "seen")


@command("audit", permission=ADMIN, help_section="admin", effects=False)
async def audit(ctx: Context[AgentServices], *, since: Duration | None = None) -> Reply:
    """Show who did what, from where, and the outcome: the newest 200 entries.

    Args:
        since: how far back, such as 2h. Default: one day.
    """
    from bot.monitoring.audit_view import as_json, text
    from database.queries.operations.audit_log import since as written_since

    now = ctx.services.clock()
    async with ctx.services.store.read() as tx:
        rows = await written_since(tx, now - (86_400.0 if since is None else since), limit=_AUDIT_LINES)
    return Reply(text(rows, limit=_AUDIT_LINES), as_json(rows))


@command("audit verify", permission=ADMIN, help_section="admin", effects=False)
async def audit_verify(ctx: Context[AgentServices], *, key: str | None = None) -> Reply:
    """Check that no line of the audit was altered, deleted, inserted or moved. It fails if one was.

    Args:
        key: public keys of your other machines that share this register, with commas between them.
    """
    from bot.monitoring import audit_loader
    from bot.monitoring.audit_view import verification_json, verification_text

    found = await audit_loader.verify(ctx.services, key)
    return Reply(verification_text(found), verification_json(found), ok=not found.faults)


@command("telemetry preview", permission=ADMIN, help_section="admin", effects=False, audited=False)
async def telemetry_preview(ctx: Context[AgentServices]) -> Reply:
    """Show exactly what telemetry would send now. Telemetry is off unless muster.yaml enables it."""
    from bot.telemetry.sender import preview

    return await preview(ctx.services)


@command("tmux open", permission=ADMIN, help_section="admin")
async def tmux_open(ctx: Context[AgentServices], name: str | None = None) -> Reply:
    """Open the fleet's tmux pane again if it was closed, and say where it is.

    Args:
        name: the connector, if there are several.
    """
    from bot.text.errors import UserError
    from bot.text.markdown import code, one_line
    from connectors.contract.connector_protocol import NotReady, PaneOwner
    from core.validation_errors import there_are

    panes = {each: pane for each, pane in ctx.services.terminals.items() if isinstance(pane, PaneOwner)}
    if not panes:
        raise UserError(
            "No tmux connector is configured. Add `tmux: {}` under connectors in muster.yaml.",
            code="connector.absent",
        )
    if name is None and len(panes) > 1:
        raise UserError(f"There are several: {', '.join(panes)}. Say which.", code="connector.ambiguous")
    wanted = next(iter(panes)) if name is None else name
    if wanted not in panes:
        raise UserError(
            f"No tmux connector is called {code(one_line(wanted, 60))}. {there_are(list(panes))}.",
            code="connector.unknown",
        )
    try:
        where = await panes[wanted].open()
    except NotReady as error:
        raise UserError(str(error), code=error.code) from error
    return Reply(where, {"connector": wanted})
