"""What an operator can answer to a permission request, and how the question reads. Pure.

A runtime offers options of the kinds ``allow_once``, ``allow_always``, ``reject_once`` and ``reject_always`` (Agent
Client Protocol, permission options), with names of its own. *Always* is remembered by Muster, for exactly this request
of this agent, and the runtime is told "once": only so can it be taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bot import rendering
from bot.commands.lines import command_line
from connectors.messages import Button, ButtonStyle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from register.queries.approvals import Approval

ChoiceName = Literal["allow", "always", "deny"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer: its mark, and the runtime's option that it stands for (None: the request is simply denied)."""

    name: ChoiceName
    mark: str
    option: str | None
    label: str

    @property
    def button(self) -> Button:
        """In our own words: a runtime may call its yes a no."""
        label, style = _BUTTONS[self.name]
        return Button(key=self.mark, label=f"{self.mark} {label}", style=style)


#: What Muster itself calls the answers, and what pressing them is like.
_BUTTONS: dict[ChoiceName, tuple[str, ButtonStyle]] = {
    "allow": ("Allow once", ButtonStyle.GOOD),
    "always": ("Always allow exactly this", ButtonStyle.PLAIN),
    "deny": ("Deny", ButtonStyle.DANGER),
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
    """The answer that a reaction means; None when it means none. Skin tones and variation selectors do not count."""
    bare = "".join(char for char in mark if char != "\ufe0f" and not "\U0001f3fb" <= char <= "\U0001f3ff")
    return _MARKS.get(bare)


def offered(options: Sequence[Mapping[str, str]]) -> tuple[Choice, ...]:
    """The answers that a request with these options can have; denying is always one."""

    def first(*kinds: str) -> Mapping[str, str] | None:
        known = [option for option in options if option.get("id")]
        return next((option for kind in kinds for option in known if option.get("kind") == kind), None)

    once, always, reject = (
        first("allow_once", "allow_always"),
        first("allow_always"),
        first("reject_once", "reject_always"),
    )
    choices = []
    if once is not None:
        choices.append(Choice("allow", "✅", once["id"], once.get("name") or "Allow once"))
        if always is not None:
            choices.append(Choice("always", "♾️", once["id"], "Always allow exactly this"))
    label = (reject.get("name") if reject is not None else None) or "Deny"
    choices.append(Choice("deny", "❌", reject["id"] if reject is not None else None, label))
    return tuple(choices)


def question(approval: Approval, redact: Callable[[str], str], *, until: str, marks: bool, hidden: bool = False) -> str:
    """The message that asks, with the whole of what is to be allowed.

    The answers stand before it: where it is too long for a message, its end is in a file, and they must not be.

    Args:
        approval: the request.
        redact: masks secrets, as far as the request is cut here.
        until: when it is denied, as people read it.
        marks: whether it can be answered by reactions, or by buttons with the same marks.
        hidden: whether redaction takes something out of it, which whoever decides must know.
    """
    words = {
        "allow": command_line(f"approve {approval.id}"),
        "always": command_line(f"approve {approval.id} --always"),
        "deny": command_line(f"deny {approval.id}"),
    }
    lines = [
        f"🔐 **{rendering.one_line(approval.agent)}** asks for permission `{approval.id}`: "
        f"{rendering.code(rendering.gist(approval.title, redact, 120))}",
        "",
    ]
    for choice in offered(approval.options):
        mark = f"{choice.mark} " if marks else ""
        # The runtime's own label comes second: it may call its yes a no.
        lines.append(
            f"- {mark}{choice.name}, {rendering.code(rendering.gist(choice.label, redact))}: {words[choice.name]}"
        )
    lines += ["", f"Unanswered at {until}, it is denied."]
    if hidden:
        lines.append("⚠️ Parts of it look like secrets and are hidden here; the agent would run them all the same.")
    lines += ["", rendering.code_block(approval.detail)]
    return "\n".join(lines)
