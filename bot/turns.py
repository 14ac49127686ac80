"""What an operator sees of a turn, folded from the journal's entries: the answer as it grows, and what was done for it.

Pure: events in, a view out; `bot.following` turns views into messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bot import rendering
from fleet.events import Plan, TextChunk, ToolCall

if TYPE_CHECKING:
    from fleet.events import Event

_TOOL_MARKS = {"completed": "✓", "failed": "✗"}
#: Tool lines that are shown at once; of a longer turn the first ones are counted instead.
_TOOL_LINES = 20


@dataclass(frozen=True, slots=True)
class ToolLine:
    call: str
    title: str
    status: str


@dataclass(frozen=True, slots=True)
class TurnView:
    """One turn so far."""

    turn: str
    message: str
    text: str = ""
    tools: tuple[ToolLine, ...] = ()
    plan: tuple[str, ...] = ()
    broken: bool = False
    """A tool was called since the last text: what comes next is a new paragraph."""

    def after(self, event: Event) -> TurnView:
        """The view once `event` has happened; itself when nothing to be seen changed."""
        match event:
            case TextChunk(text=text):
                gap = "\n\n" if self.broken and self.text and not self.text.endswith("\n\n") else ""
                return replace(self, text=self.text + gap + text, broken=False)
            case ToolCall():
                return replace(self, tools=_with_tool(self.tools, event), broken=True)
            case Plan(entries=entries):
                lines = tuple(f"{_PLAN_MARKS.get(str(e.get('status')), '○')} {e.get('content', '')}" for e in entries)
                return replace(self, plan=lines)
            case _:
                return self

    def activity(self) -> str | None:
        """What was done, as short Markdown lines; None when there is nothing to tell."""
        lines = []
        hidden = len(self.tools) - _TOOL_LINES
        if hidden > 0:
            lines.append(f"… {hidden} earlier")
        for tool in self.tools[-_TOOL_LINES:]:
            mark = _TOOL_MARKS.get(tool.status, "…")
            lines.append(f"{mark} {rendering.code(rendering.one_line(tool.title or 'tool', 120))}")
        lines.extend(rendering.one_line(line, 120) for line in self.plan)
        return "  \n".join(lines) if lines else None

    def doing(self) -> str | None:
        """The tool call that runs now."""
        running = [tool for tool in self.tools if tool.status not in _TOOL_MARKS]
        return rendering.one_line(running[-1].title, 60) if running else None


_PLAN_MARKS = {"completed": "●", "in_progress": "◐"}


def _with_tool(tools: tuple[ToolLine, ...], event: ToolCall) -> tuple[ToolLine, ...]:
    for index, tool in enumerate(tools):
        if tool.call == event.call:
            changed = replace(tool, title=event.title or tool.title, status=event.status or tool.status)
            return (*tools[:index], changed, *tools[index + 1 :])
    return (*tools, ToolLine(event.call, event.title or "", event.status or "pending"))
