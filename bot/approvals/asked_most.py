"""What operators were asked most, with the rules that would answer it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.approvals import rule_text
from bot.approvals.services import ApprovalServices
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.markdown import some
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from fleet.approval_rules.requests import UNKNOWN, RequestFacts
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.suggestions import suggestions

#: The newest requests that are counted, and the number of subjects shown.
MOST_COUNTED = 5_000
_SHOWN = 15
#: How far back to look, in seconds.
LOOK_BACK_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOften:
    """What was asked several times."""

    title: str
    facts: RequestFacts
    sandboxed: bool
    """Whether all its agents run in a sandbox."""
    asked: int
    allowed: int
    denied: int
    agents: tuple[str, ...]

    @property
    def rule(self) -> ApprovalRule | None:
        """The widest rule that would answer it without more authority, if it was never denied."""
        offered = suggestions(self.facts, sandboxed=self.sandboxed)
        # What does not show as it is cannot be copied as a command.
        plain = offered and all(char.isprintable() for char in self.facts.command or "")
        return offered[-1] if plain and not self.denied else None


def counted(asked: Iterable[Approval]) -> list[AskedOften]:
    """Return the subjects of requests, the most frequent first. Requests of one kind and content are one subject."""
    groups: dict[object, list[Approval]] = {}
    for approval in asked:
        facts = approval.facts or {}
        content = (facts.get("command"), tuple(facts.get("paths", ())), facts.get("tool"), facts.get("url"))
        key = (facts.get("kind"), *content) if facts else approval.title
        groups.setdefault(key, []).append(approval)
    found = [
        AskedOften(
            title=group[0].title,
            facts=RequestFacts.from_json(group[0].facts) if group[0].facts else UNKNOWN,
            sandboxed=all((each.facts or {}).get("sandboxed") for each in group),
            asked=len(group),
            allowed=sum((each.answer or {}).get("choice") in ("allow", "always") for each in group),
            denied=sum((each.answer or {}).get("choice") == "deny" for each in group),
            agents=tuple(sorted({each.agent for each in group})),
        )
        for group in groups.values()
    ]
    return sorted(found, key=lambda each: -each.asked)


async def show(ctx: Context[ApprovalServices], since_s: float | None) -> Reply:
    since_s = LOOK_BACK_S if since_s is None else since_s
    services = ctx.services
    async with services.store.read() as tx:
        asked = await approvals.asked_since(tx, services.clock() - since_s, MOST_COUNTED)
    found = counted(asked)
    data = [
        {
            "title": services.redact(each.title),
            "facts": {key: services.redact(str(value)) for key, value in each.facts.to_json().items()},
            "asked": each.asked,
            "allowed": each.allowed,
            "denied": each.denied,
            "agents": list(each.agents),
            "rule": None if each.rule is None else services.redact(rule_text.command_of(each.rule)),
        }
        for each in found
    ]
    if not found:
        return Reply(f"Nothing was asked in {markdown.span(since_s)}.", data)
    lines = [f"{len(asked):,} permission requests in {markdown.span(since_s)}:\n"]
    lines += [_line(each, services) for each in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"\n{len(found) - _SHOWN:,} more: {command_line('approvals stats --json')} in a shell.")
    return Reply(services.redact("\n".join(lines)), data)


def _line(each: AskedOften, services: ApprovalServices) -> str:
    answers: Sequence[str] = [
        f"{count} {word}" for count, word in ((each.allowed, "allowed"), (each.denied, "denied")) if count
    ]
    said = f" ({', '.join(answers)})" if answers else ""
    what = markdown.code(markdown.gist(each.facts.command or each.title, services.redact, 120))
    text = f"- {each.asked} times{said}: {what}, {some(each.agents)}"
    if each.rule is not None and each.asked > 1:
        text += f". {command_line(rule_text.command_of(each.rule))} allows it"
    return text
