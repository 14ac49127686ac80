"""Choices that an operator has for a permission request, and the text of the request's message. Pure.

A runtime offers options of the kinds ``allow_once``, ``allow_always``, ``reject_once`` and ``reject_always`` (Agent
Client Protocol, permission options). Their names are never shown, because a runtime could mislabel them. Muster itself
remembers *always*, for exactly this request of this agent, and sends "once" to the runtime. Otherwise the grant could
not be revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bot.commands.syntax import command_line
from bot.text import markdown
from connectors.contract.messages import Button, ButtonStyle
from database.queries.chat.approvals import Approval
from fleet.approval_rules.requests import UNKNOWN, RequestFacts
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.suggestions import suggestions

ChoiceName = Literal["allow", "always", "prefix", "while", "all", "deny"]
#: Choices that add an approval rule. Only admins have them.
ADDING: Final[frozenset[ChoiceName]] = frozenset({"prefix", "while"})
#: Choices that confirm a command as well.
CONFIRMING: Final[frozenset[ChoiceName]] = frozenset({"allow", "always"})
#: Seconds of the rule that allows a kind of request for a while.
WHILE_S: Final = 1800.0


@dataclass(frozen=True, slots=True)
class ApprovalChoice:
    """One choice: its mark, and the id of the runtime's option. None means that the request is simply denied."""

    name: ChoiceName
    mark: str
    option: str | None
    label: str
    """Muster's own label for the option's kind. A runtime could mislabel its options."""
    rule: ApprovalRule | None = None
    """The rule that it adds, without id, scope and end."""

    @property
    def button(self) -> Button:
        return Button(key=self.mark, label=f"{self.mark} {self.label}", style=_STYLES[self.name])


_STYLES: dict[ChoiceName, ButtonStyle] = {
    "allow": ButtonStyle.GOOD,
    "always": ButtonStyle.PLAIN,
    "prefix": ButtonStyle.PLAIN,
    "while": ButtonStyle.PLAIN,
    "all": ButtonStyle.GOOD,
    "deny": ButtonStyle.DANGER,
}
#: The effect of an answer, by the kind of the chosen option.
DONE = {
    "allow_once": "allowed once",
    "allow_always": "always allowed",
    "reject_once": "denied",
    "reject_always": "always denied, by its runtime",
}

_MARKS: dict[str, ChoiceName] = {
    "✅": "allow",
    "👍": "allow",
    "☑": "allow",
    "♾": "always",
    "🔁": "always",
    "📌": "prefix",
    "⏱": "while",
    "⏩": "all",
    "❌": "deny",
    "👎": "deny",
    "✖": "deny",
}


def by_mark(mark: str) -> ChoiceName | None:
    """Return the choice that a reaction means, or None. Skin tones and variation selectors are ignored."""
    bare = "".join(char for char in mark if char != "\ufe0f" and not "\U0001f3fb" <= char <= "\U0001f3ff")
    return _MARKS.get(bare)


def offered(options: Sequence[Mapping[str, str]]) -> tuple[ApprovalChoice, ...]:
    """Return the choices for a request with these options; denying is always one of them."""

    meant: dict[str, set[str]] = {}
    for option in options:
        meant.setdefault(option.get("id") or "", set()).add(option.get("kind") or "")

    def first(kind: str) -> str | None:
        # An id that an agent offers with several kinds is ambiguous, so it is never used.
        return next((id_ for id_, kinds in meant.items() if id_ and kinds == {kind}), None)

    once, always = first("allow_once"), first("allow_always")
    never, reject = first("reject_always"), first("reject_once")
    choices = []
    if once is not None:
        choices.append(ApprovalChoice("allow", "✅", once, "Allow once"))
    if once is not None and always is not None:
        choices.append(ApprovalChoice("always", "♾️", once, "Always allow exactly this"))
    elif always is not None:
        choices.append(ApprovalChoice("always", "♾️", always, "Always allow, which the runtime remembers as well"))
    if reject is None and never is not None:
        choices.append(ApprovalChoice("deny", "❌", never, "Always deny, which the runtime remembers"))
    else:
        choices.append(ApprovalChoice("deny", "❌", reject, "Deny"))
    return tuple(choices)


#: Characters of a request in the first line of the message about it.
_HEADING: Final = 120
_WIDE: dict[str, str] = {
    "execute": "all its commands",
    "edit": "all its edits",
    "read": "all its reading",
    "fetch": "all its fetching",
}


def choices_of(approval: Approval) -> tuple[ApprovalChoice, ...]:
    """Return all choices for a request, those included that add a rule or answer several requests."""
    choices = offered(approval.options)
    once = next((choice.option for choice in choices if choice.name == "allow"), None)
    if once is None:
        return choices
    added = []
    facts = RequestFacts.from_json(approval.facts) if approval.facts else UNKNOWN
    offers = suggestions(facts, sandboxed=bool((approval.facts or {}).get("sandboxed")))
    prefix = next((rule for rule in offers if rule.match == "prefix"), None)
    if prefix is not None:
        label = f"Always allow commands that begin with {prefix.command}"
        added.append(ApprovalChoice("prefix", "📌", once, label, prefix))
    server = (facts.tool or "").partition("/")[0]
    if facts.kind in _WIDE or (facts.kind == "mcp" and server):
        what = _WIDE.get(facts.kind or "", f"all tools of {markdown.one_line(server, 40)}")
        tool = f"{server}/*" if facts.kind == "mcp" else None
        wide = ApprovalRule(id="", effect="allow", kind=facts.kind or "any", tool=tool)
        added.append(ApprovalChoice("while", "⏱️", once, f"Allow {what} for 30 minutes", wide))
    if approval.together:
        label = f"Allow all {len(approval.together) + 1} requests below once"
        added.append(ApprovalChoice("all", "⏩", once, label))
    return (*choices[:-1], *added, choices[-1])


def question(
    approval: Approval,
    redact: Callable[[str], str],
    *,
    until: str,
    marks: bool,
    hidden: bool = False,
    others: Sequence[Approval] = (),
    page: str | None = None,
) -> str:
    """Return the message that asks for permission, with the complete request.

    A request that fits into the first line stands there alone. Any other one comes after the choices: if the message is
    too long, its end is sent as a file, and the choices must not be in that file.

    Args:
        approval: the request.
        redact: masks secrets in the parts of the request that are shortened here.
        until: the time at which the request is denied, as shown to people.
        marks: whether reactions, or buttons with the same marks, can answer it.
        hidden: whether redaction hides a part of it, which the person who decides must know.
        others: requests of the agent that wait as well and can be answered together with this one.
        page: the address of the request on the dashboard; None if there is none.
    """
    words = {
        "allow": command_line(f"approve {approval.id}"),
        "always": command_line(f"approve {approval.id} --always"),
        "prefix": command_line(f"approve {approval.id} --prefix"),
        "while": command_line(f"approve {approval.id} --for 30m"),
        "all": command_line(f"approve {approval.id} --all"),
        "deny": command_line(f"deny {approval.id}"),
    }
    gist = markdown.gist(approval.title, redact, _HEADING)
    lines = [
        f"🔐 **{markdown.one_line(approval.agent)}** asks for permission `{approval.id}`: {markdown.code(gist)}",
        "",
    ]
    for choice in choices_of(approval):
        mark = f"{choice.mark} " if marks else ""
        admins = " (admins)" if choice.name in ADDING else ""
        lines.append(f"- {mark}{choice.label}{admins}: {words[choice.name]}")
    on_page = "" if page is None else f" On the dashboard: {page}"
    lines += ["", f"Unanswered at {until}, it is denied.{on_page}"]
    if hidden:
        lines.append("⚠️ Parts of it look like secrets and are hidden here; the agent would run them all the same.")
    if gist != approval.detail:
        lines += ["", markdown.code_block(approval.detail)]
    for other in others:
        lines += [f"Waiting as well, `{other.id}`:", "", markdown.code_block(other.detail)]
    return "\n".join(lines)
