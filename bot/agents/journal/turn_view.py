"""The view of a turn that an operator sees, folded from journal entries: the growing answer and the actions taken.

Pure: events in, a view out. `bot.agents.journal.follower` turns views into messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bot.text import markdown
from core.redaction import SecretMasker
from fleet.journal.events import Event, PlanUpdated, TextChunk, ToolCall

_TOOL_MARKS = {"completed": "✓", "failed": "✗"}
#: Maximum number of tool lines shown; earlier ones of a longer turn are only counted.
_TOOL_LINES = 20
#: Maximum number of tool calls kept, so that later updates of them can be matched.
_TOOLS_KEPT = 100
#: Maximum number of characters kept of a turn's text; the rest is only counted.
LONGEST_TEXT = 500_000


@dataclass(frozen=True, slots=True)
class ToolLine:
    call: str
    title: str
    status: str
    at: float | None = None
    """The time of the call, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class TurnView:
    """The state of one turn."""

    turn: str
    message: str
    text: str = ""
    left_out: int = 0
    """Number of characters beyond `LONGEST_TEXT`."""
    tools: tuple[ToolLine, ...] = ()
    """The most recent tool calls."""
    earlier_tools: int = 0
    plan: tuple[str, ...] = ()
    broken: bool = False
    """Whether a tool was called since the last text, so that the next text starts a new paragraph."""

    def after(self, event: Event, at: float | None = None) -> TurnView:
        """Return the view after `event` at time `at`; the view itself if nothing visible changed."""
        match event:
            case TextChunk(text=text):
                gap = "\n\n" if self.broken and self.text and not self.text.endswith("\n\n") else ""
                room = LONGEST_TEXT - len(self.text)
                if room <= 0:
                    return replace(self, left_out=self.left_out + len(text))
                more = gap + text
                return replace(self, text=self.text + more[:room], left_out=max(0, len(more) - room), broken=False)
            case ToolCall():
                return self._with_tool(event, at)
            case PlanUpdated(entries=entries):
                lines = tuple(f"{_PLAN_MARKS.get(str(e.get('status')), '○')} {e.get('content', '')}" for e in entries)
                return replace(self, plan=lines)
            case _:
                return self

    def _with_tool(self, event: ToolCall, at: float | None) -> TurnView:
        tools = self.tools
        for index, tool in enumerate(tools):
            if tool.call == event.call:
                changed = replace(tool, title=event.title or tool.title, status=event.status or tool.status)
                return replace(self, tools=(*tools[:index], changed, *tools[index + 1 :]), broken=True)
        if event.title is None and self.earlier_tools:
            return self  # a change of one that is only counted by now
        kept = tools if len(tools) < _TOOLS_KEPT else tools[1:]
        return replace(
            self,
            tools=(*kept, ToolLine(event.call, event.title or "", event.status or "pending", at)),
            earlier_tools=self.earlier_tools + len(tools) - len(kept),
            broken=True,
        )

    def said(self, redact: SecretMasker) -> str:
        """Return the whole answer as Markdown without secrets, with a note about omitted characters."""
        if not self.left_out:
            return redact(self.text)
        return f"{redact.of_growing(self.text)}\n\n… {self.left_out:,} more characters of this answer were left out."

    def activity(self, redact: Callable[[str], str]) -> str | None:
        """Return the actions as short Markdown lines without secrets, or None if there are none."""
        lines = []
        hidden = self.earlier_tools + len(self.tools) - _TOOL_LINES
        if hidden > 0:
            lines.append(f"… {hidden} earlier")
        for tool in self.tools[-_TOOL_LINES:]:
            mark = _TOOL_MARKS.get(tool.status, "…")
            lines.append(f"{mark} {markdown.code(markdown.gist(tool.title or 'tool', redact, 120))}")
        lines.extend(markdown.gist(line, redact, 120) for line in self.plan)
        return "  \n".join(lines) if lines else None

    def running(self) -> ToolLine | None:
        """Return the tool call that is running, or None."""
        return next((tool for tool in reversed(self.tools) if tool.status not in _TOOL_MARKS), None)


_PLAN_MARKS = {"completed": "●", "in_progress": "◐"}
