"""The commands `approvals rule add`, `list`, `remove` and `test`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals import agent_rules, rule_delivery, rule_reach, rule_rows, rule_text
from bot.approvals import rule_scopes as scopes
from bot.approvals.services import ApprovalServices
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.config.approvals import DEFAULT_PRESET
from bot.text import markdown
from bot.text.errors import UsageError, UserError
from bot.text.markdown import some
from core.validation_errors import suggestion
from database.queries.agents import agents
from database.queries.chat import approval_rules
from fleet.approval_rules import runtime_requests
from fleet.approval_rules.judge import judge
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule, Effect, Kind
from fleet.approval_rules.validation import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleArguments:
    """A rule as it was typed."""

    effect: Effect
    command: str | None = None
    prefix: bool = False
    kind: Kind | None = None
    path: str | None = None
    tool: str | None = None
    host: str | None = None
    sandboxed: bool = False
    scope: str = "fleet"


def rule_of(asked: RuleArguments, *, id: str, until: float | None = None) -> ApprovalRule:
    """Return the rule that was typed.

    Raises:
        UserError: it is none.
        RuleError: it would allow more than it says.
    """
    if asked.prefix and asked.command is None:
        raise UsageError("--prefix is for a command. Write its first words, such as 'git log'. Nothing was added.")
    kind = asked.kind
    given = (("execute", asked.command), ("mcp", asked.tool), ("fetch", asked.host))
    for meant, value in given:
        if value is not None and kind is None:
            kind = meant  # type: ignore[assignment]
    if kind is None:
        raise UsageError(
            "What is the rule about? Give a command in quotes, or --tool, --host or --kind. Nothing was added."
        )
    try:
        scope = scopes.read(asked.scope)
    except ValueError as error:
        raise UserError(f"No rule was added: {error}.", code="approval_rule.unknown_scope") from None
    rule = ApprovalRule(
        id=id,
        effect=asked.effect,
        kind=kind,
        scope=scope,
        command=asked.command,
        match="prefix" if asked.prefix else "exact",
        paths=() if asked.path is None else (asked.path,),
        tool=asked.tool,
        host=asked.host,
        until=until,
        # Of the programs that a build runs, a sandbox is the only limit.
        sandbox_only=asked.sandboxed,
    )
    validate(rule)
    return rule


async def add(ctx: Context[ApprovalServices], asked: RuleArguments, for_s: float | None) -> Reply:
    if for_s is not None and not rule_rows.SHORTEST_S <= for_s <= rule_rows.LONGEST_S:
        raise UsageError("A rule that ends lasts one minute up to 31 days. Nothing was added.")
    rule = rule_of(
        asked, id=rule_rows.rule_id(ctx.run_id), until=None if for_s is None else ctx.services.clock() + for_s
    )
    await _check_scope(ctx.services, rule.scope)

    async def act(tx: AsyncConnection) -> None:
        await rule_rows.check_room(tx, ctx.services.clock())
        await rule_rows.keep(tx, rule, by=ctx.identity, now=ctx.services.clock())

    await ctx.commit("add", act)
    return await _added(ctx, rule)


async def _check_scope(services: ApprovalServices, scope: str) -> None:
    """Check that the scope names something that exists. A rule on a wrong name would seem effective.

    Raises:
        UserError: it does not; the message lists what does.
    """
    sort, _, name = scope.partition(":")
    if sort == "role":
        there = sorted((await asyncio.to_thread(services.planner.roles)).names)
    elif sort == "agent":
        async with services.store.read() as tx:
            names = {row.name for row in await agents.every(tx)}
        await services.roster.refresh()
        there = sorted(names | (services.roster.names or frozenset()))
    else:
        return
    if name not in there:
        raise UserError(
            f"No rule was added: there is no {sort} {name[:60]!r}.{suggestion(name, there)} There is "
            f"{some(there) or 'none'}.",
            code="approval_rule.unknown_scope",
        )


async def _added(ctx: Context[ApprovalServices], rule: ApprovalRule) -> Reply:
    async with ctx.services.store.read() as tx:
        rows = await agents.every(tx)
    held = [row for row in rows if scopes.holds(rule.scope, agent_rules.agent_of(row))]
    refused = await rule_delivery.pushed(ctx.services, [row.name for row in held])
    lines = [f"Rule `{rule.id}` holds: **{rule.effect}** {rule_text.subject(rule, ctx.services.redact)}."]
    lines.append(f"For {some([row.name for row in held])}, and new ones." if held else "No agent is in its scope yet.")
    lines.append(f"{command_line(f'approvals rule remove {rule.id}')} removes it.")
    text = " ".join(lines)
    sentences = rule_reach.limits(held, rule.kind)
    if rule.effect != "allow" and rule.kind in ("read", "execute"):
        sentences.append(
            "Runtimes read files, and some run commands that only read, without asking. A rule does not see these; a "
            "sandbox keeps closed what it does not show."
        )
    for sentence in (*rule_delivery.sentences(refused), *sentences):
        text += f"\n\n⚠️ {sentence}"
    data = {"agents": [row.name for row in held], "not_taken": sorted(refused)}
    return Reply(text, {**rule_text.as_json([rule], ctx.services.timestamp)[0], **data})


async def listing(ctx: Context[ApprovalServices], name: str | None) -> Reply:
    services = ctx.services
    now = services.clock()
    if name is None:
        scopes = agent_rules.scopes_of(services.settings)
        written = [rule for scope, block in scopes.items() for rule in block.rules.rules(scope)]
        rules = [*written, *await agent_rules.added_rules(services)]
        named = {scope: block.preset for scope, block in scopes.items() if block.preset is not None}
        presets = {"fleet": DEFAULT_PRESET, **named}
        heads = [f"Preset of {markdown.code(scope)}: {preset}." for scope, preset in presets.items()]
        head = f"{' '.join(heads)} What no rule answers is asked."
    else:
        row = await services.agents.get(name)
        rules = list(await agent_rules.rules_of(services, row))
        preset = agent_rules.preset_of(agent_rules.scopes_of(services.settings), agent_rules.agent_of(row))
        head = f"{row.name} has the preset {preset}. What no rule answers is asked."
    data = rule_text.as_json(rules, services.timestamp)
    if not rules:
        more = f"{command_line('approvals rule add')} adds one, {command_line('approvals stats')} shows candidates."
        return Reply(f"{head}\n\nThere are no rules. {more}", data)
    lines = [rule_text.line(rule, services.redact, now=now) for rule in rules]
    return Reply(services.redact("\n".join([f"{head}\n", *lines])), data)


async def remove(ctx: Context[ApprovalServices], rule_id: str) -> Reply:
    wanted = rule_id.strip("`").casefold()

    async def act(tx: AsyncConnection) -> tuple[str, list[str]]:
        row = await approval_rules.get(tx, wanted)
        if row is None:
            raise UserError(_unknown(ctx.services, wanted), code="approval_rule.unknown")
        await approval_rules.remove(tx, wanted)
        rule = agent_rules.rule_of(row)
        held = [each.name for each in await agents.every(tx) if scopes.holds(rule.scope, agent_rules.agent_of(each))]
        return rule_text.subject(rule, ctx.services.redact), held

    what, held = await ctx.commit("remove", act)
    refused = await rule_delivery.pushed(ctx.services, held)
    notes = "".join(f"\n\n⚠️ {sentence}" for sentence in rule_delivery.sentences(refused))
    data = {"id": wanted, "state": "removed", "not_taken": sorted(refused)}
    return Reply(f"Rule `{wanted}` is removed: {what}.{notes}", data)


def _unknown(services: ApprovalServices, wanted: str) -> str:
    shown = markdown.one_line(wanted, 40)
    for scope, block in services.settings.approvals.scopes().items():
        if any(rule.id == wanted for rule in block.rules.rules(scope)):
            return f"Rule {shown!r} is in muster.yaml. Remove it there, then run {command_line('roster apply')}."
    return f"No rule that was added by command has the id {shown!r}. {command_line('approvals rule list')} lists them."


async def test(
    ctx: Context[ApprovalServices],
    *,
    command: str | None,
    kind: Kind | None,
    path: str | None,
    tool: str | None,
    url: str | None,
    name: str | None,
) -> Reply:
    services = ctx.services
    facts = _facts(command, kind, path, tool, url)
    async with services.store.read() as tx:
        rows = await agents.every(tx)
    if name is not None:
        rows = [await services.agents.get(name)]
    if not rows:
        raise UserError(
            f"There are no agents to test it with; {command_line('launch NAME')} starts one.", code="agent.none"
        )
    added = await agent_rules.added_rules(services)
    lines, data = [], []
    for row in rows:
        isolation = agent_rules.isolation_of(services, row.sandbox)
        rules = agent_rules.combined(
            agent_rules.scopes_of(services.settings), added, agent_rules.agent_of(row), isolation
        )
        workspace = await asyncio.to_thread(services.planner.workspaces.place, row.name, Path(row.workspace))
        verdict = await asyncio.to_thread(
            judge,
            runtime_requests.as_told_by(row.runtime, facts),
            rules,
            workspace=workspace,
            sandboxed=isolation.sandboxed,
            now=services.clock(),
        )
        rule = verdict.rule
        which = f" by rule `{rule.id}` ({rule.origin})" if rule is not None else ""
        why = f" {verdict.reason}" if verdict.effect == "ask" else ""
        lines.append(f"- **{row.name}**: **{verdict.effect}**{which}.{why}")
        data.append(
            {
                "agent": row.name,
                "effect": verdict.effect,
                "rule": None if rule is None else rule.id,
                "origin": None if rule is None else rule.origin,
                "reason": services.redact(verdict.reason),
            }
        )
    text = "\n".join(lines)
    for sentence in rule_reach.limits(list(rows), facts.kind):
        text += f"\n\n⚠️ {sentence}"
    return Reply(services.redact(text), data)


def _facts(command: str | None, kind: Kind | None, path: str | None, tool: str | None, url: str | None) -> RequestFacts:
    """Return the request to test.

    Raises:
        UsageError: it is not clear what it is.
    """
    if command is not None:
        return RequestFacts(kind="execute", command=command)
    if tool is not None:
        return RequestFacts(kind="mcp", tool=tool)
    if url is not None:
        return RequestFacts(kind="fetch", url=url)
    if kind in ("read", "edit") and path is not None:
        return RequestFacts(kind=kind, paths=(path,))
    raise UsageError("Give a command in quotes, --tool, --url, or --kind read or edit with --path.")
