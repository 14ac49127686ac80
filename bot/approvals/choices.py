"""Choices that an operator has for a permission request, and the text of the request's message. Pure.

A runtime offers options of the kinds ``allow_once``, ``allow_always``, ``reject_once`` and ``reject_always`` (Agent
Client Protocol, permission options). Their names are never shown, because a runtime could mislabel them. Muster itself
remembers *always*, for exactly this request of this agent, and sends "once" to the runtime. Otherwise the grant could
not be revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bot.commands.syntax import command_line
from bot.text import markdown
from connectors.contract.messages import Button, ButtonStyle
from database.queries.chat.approvals import Approval

ChoiceName = Literal["allow", "always", "deny"]


@dataclass(frozen=True, slots=True)
class ApprovalChoice:
    """One choice: its mark, and the id of the runtime's option. None means that the request is simply denied."""

    name: ChoiceName
    mark: str
    option: str | None
    label: str
    """Muster's own label for the option's kind. A runtime could mislabel its options."""

    @property
    def button(self) -> Button:
        return Button(key=self.mark, label=f"{self.mark} {self.label}", style=_STYLES[self.name])


_STYLES: dict[ChoiceName, ButtonStyle] = {
    "allow": ButtonStyle.GOOD,
    "always": ButtonStyle.PLAIN,
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


def question(approval: Approval, redact: Callable[[str], str], *, until: str, marks: bool, hidden: bool = False) -> str:
    """Return the message that asks for permission, with the complete request.

    The choices come before the request. If the message is too long, its end is sent as a file, and the choices must not
    be
    in that file.

    Args:
        approval: the request.
        redact: masks secrets in the parts of the request that are shortened here.
        until: the time at which the request is denied, as shown to people.
        marks: whether reactions, or buttons with the same marks, can answer it.
        hidden: whether redaction hides a part of it, which the person who decides must know.
    """
    words = {
        "allow": command_line(f"approve {approval.id}"),
        "always": command_line(f"approve {approval.id} --always"),
        "deny": command_line(f"deny {approval.id}"),
    }
    lines = [
        f"🔐 **{markdown.one_line(approval.agent)}** asks for permission `{approval.id}`: "
        f"{markdown.code(markdown.gist(approval.title, redact, 120))}",
        "",
    ]
    for choice in offered(approval.options):
        mark = f"{choice.mark} " if marks else ""
        lines.append(f"- {mark}{choice.label}: {words[choice.name]}")
    lines += ["", f"Unanswered at {until}, it is denied."]
    if hidden:
        lines.append("⚠️ Parts of it look like secrets and are hidden here; the agent would run them all the same.")
    lines += ["", markdown.code_block(approval.detail)]
    return "\n".join(lines)
