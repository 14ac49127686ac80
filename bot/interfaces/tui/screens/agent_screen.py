"""The page of one agent: its facts, and its conversation as it grows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer

from bot.commands.syntax import written
from bot.interfaces.tui.views.conversation import conversation, facts
from bot.interfaces.tui.widgets.text_pane import TextLine, TextPane
from bot.read_models.agent import AgentModel, TurnModel
from bot.read_models.documents import AGENTS, Document
from core.errors import MusterError


class AgentScreen(Screen[None]):
    """One agent. It stays when the agent is gone, and says so."""

    DEFAULT_CSS = """
    AgentScreen #conversation { height: 1fr; border-top: solid $primary 50%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.leave", "Back"),
        Binding("t", "thoughts", "Thoughts"),
        Binding("p", "older", "Older"),
    ]

    def __init__(
        self,
        name: str,
        older: Callable[[str, str], Awaitable[AgentModel | None]],
        clock: Callable[[], float],
    ) -> None:
        """Take the agent.

        Args:
            name: its name.
            older: reads the page of a document before a place.
            clock: seconds since the epoch.
        """
        super().__init__()
        self.agent_name = name
        self._older = older
        self._clock = clock
        self._model: AgentModel | None = None
        self._earlier: tuple[TurnModel, ...] = ()
        self._before: str | None = None
        self._gone = False
        self._thoughts = False
        self._facts = TextPane(most=4, id="facts")
        self._facts.can_focus = False
        self.pane = TextPane(follows=True, id="conversation")
        self.line = TextPane(most=2, id="line")
        self.line.can_focus = False

    @property
    def document(self) -> str:
        """The name of its document."""
        return AGENTS + self.agent_name

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with Vertical():
            yield self.line
            yield self._facts
            yield self.pane
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show that nothing is known yet."""
        self.pane.focus()
        self.pane.show([TextLine(f"Looking for {self.agent_name} …", "dim")])

    def take(self, document: Document) -> None:
        """Show a document of the agent."""
        if document.value is None:
            self._gone = True
            self.tick()
            return
        if not isinstance(document.value, AgentModel):
            return
        model, known = document.value, self._model
        if known is not None and not model.turns and known.turns:
            # What it said stays while Muster is down, and nobody tells more.
            model = replace(model, turns=known.turns, before=known.before)
        if known is not None and self._earlier:
            there = {turn.turn for turn in model.turns}
            self._earlier += tuple(turn for turn in known.turns if turn.turn not in there)
        else:
            self._before = model.before
        self._gone, self._model = False, model
        self.tick()

    def tick(self) -> None:
        """Show what is new, and let ages grow."""
        now = self._clock()
        model = self._model
        head: list[TextLine] = []
        if self._gone:
            head.append(TextLine(f"There is no agent {self.agent_name} any more. Esc goes back.", "bad"))
        if model is None:
            self._facts.show(head)
            if self._gone:
                self.pane.show([])
            return
        self._facts.show([*head, *facts(model, now)])
        shown = replace(model, turns=(*self._earlier, *model.turns), before=self._before)
        self.pane.show(conversation(shown, thoughts=self._thoughts, now=now))

    def action_thoughts(self) -> None:
        """Fold or unfold thoughts."""
        self._thoughts = not self._thoughts
        self.tick()

    @work(exclusive=True, group="older")
    async def action_older(self) -> None:
        """Read older turns."""
        if self._before is None:
            self.notify("There are no older turns.", markup=False)
            return
        try:
            page = await self._older(self.document, self._before)
        except MusterError as error:
            self.notify(written(str(error), ""), severity="error", markup=False)
            return
        if page is not None:
            self._earlier = (*page.turns, *self._earlier)
            self._before = page.before
            self.tick()
            self.pane.scroll_home(animate=False)
