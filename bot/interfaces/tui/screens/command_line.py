"""The command line: every command of the table, as it is typed in a shell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from bot.auth.permission import ADMIN
from bot.commands.candidates import candidates
from bot.commands.help import CHAT_WORDS, unknown
from bot.commands.parser import Json, parse, with_usage
from bot.commands.registry import Command, CommandTable
from bot.commands.syntax import SHELL, in_docstring, written
from bot.interfaces.tui.screens.dialogs import literal
from bot.text.errors import UsageError, UserError

#: The most completions that are shown.
_MOST = 12


def read_line(table: CommandTable, line: str) -> tuple[Command, dict[str, Json]]:
    """Return the command of a typed line, and its arguments.

    Raises:
        UserError: there is no such command, or its arguments are wrong. The message says what is right.
    """
    found = table.match(line)
    if found is None:
        raise UserError(written(unknown(table, line, ADMIN), ""), code="command.unknown")
    try:
        return found.command, parse(found.command, found.rest)
    except UsageError as error:
        raise UsageError(written(with_usage(error, found.command), "")) from None


class CommandLine(ModalScreen[str | None]):
    """Asks for a command. Tab completes; it ends with a line that can be read."""

    DEFAULT_CSS = """
    CommandLine { align: left bottom; background: $background 40%; }
    CommandLine > Vertical { height: auto; max-height: 50%; background: $surface; border-top: solid $primary; }
    CommandLine Static { width: 1fr; height: auto; max-height: 8; color: $foreground 70%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("tab", "complete", "Complete", priority=True),
        Binding("up", "recall(-1)", "Earlier", show=False),
        Binding("down", "recall(1)", "Later", show=False),
    ]

    def __init__(
        self,
        table: CommandTable,
        words_of: Callable[[str], Awaitable[Sequence[str]]],
        history: Sequence[str] = (),
        *,
        begin: str = "",
    ) -> None:
        """Take what can be typed.

        Args:
            table: the commands.
            words_of: the values of an argument, by their source.
            history: earlier lines, the oldest first.
            begin: the line to begin with.
        """
        super().__init__()
        self._table, self._words_of, self._history = table, words_of, [*history]
        self._place = len(self._history)
        self._begin = begin

    def compose(self) -> ComposeResult:
        """Lay out the line."""
        with Vertical():
            yield Static("", id="said")
            yield Input(
                self._begin, placeholder="command · Tab completes · Enter runs it", compact=True, select_on_focus=False
            )

    @property
    def input(self) -> Input:
        """The line."""
        return self.query_one(Input)

    @on(Input.Changed)
    def _explain(self, event: Input.Changed) -> None:
        found = self._table.match(event.value)
        if found is None:
            self._offer(event.value)
            return
        summary = written(in_docstring(f"{found.command.usage}\n{found.command.summary}", self._table), "")
        self._say(summary)

    @work(exclusive=True)
    async def _offer(self, line: str) -> None:
        words = await self.completions(line)
        self._say(" ".join(words[:_MOST]) + (" …" if len(words) > _MOST else ""))

    async def completions(self, line: str) -> list[str]:
        """Return the words that can replace the last one of the line."""
        found = await candidates(self._table, line, self._words_of, "")
        return [word for word in found if " " in line or word not in CHAT_WORDS]

    @work(exclusive=True, group="complete")
    async def action_complete(self) -> None:
        """Complete the last word as far as it is certain, and show what fits."""
        line = self.input.value
        words = await self.completions(line)
        if self.input.value != line or not words:
            return
        before, _, last = line.rpartition(" ")
        common = _common(words)
        if len(words) == 1:
            common += " "
        else:
            self._say(" ".join(words[:_MOST]) + (" …" if len(words) > _MOST else ""))
        if len(common) >= len(last):
            self.input.value = f"{before} {common}" if before else common
            self.input.cursor_position = len(self.input.value)

    def action_recall(self, by: int) -> None:
        """Show an earlier line."""
        self._place = max(0, min(len(self._history), self._place + by))
        self.input.value = self._history[self._place] if self._place < len(self._history) else ""
        self.input.cursor_position = len(self.input.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        line = event.value.strip().removeprefix(":").removeprefix(SHELL)
        if not line:
            self.dismiss(None)
            return
        try:
            read_line(self._table, line)
        except UserError as error:
            self._say(str(error))
        else:
            self.dismiss(line)

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(literal(text))


def _common(words: Sequence[str]) -> str:
    first, last = min(words), max(words)
    for place, sign in enumerate(first):
        if place >= len(last) or last[place] != sign:
            return first[:place]
    return first
