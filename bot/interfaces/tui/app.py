"""The dashboard: pages of read models, and orders through commands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Footer, Input, Static

from bot.commands.parser import line_of
from bot.commands.registry import Command, CommandTable
from bot.commands.syntax import written
from bot.interfaces.tui import pages
from bot.interfaces.tui.feeds.orders import CommandResult
from bot.interfaces.tui.feeds.switching_source import SourceState
from bot.interfaces.tui.keys import AGENT_KEYS, ASKED, RUN_KEYS, AgentKey, keys_text
from bot.interfaces.tui.screens.agent_screen import AgentScreen
from bot.interfaces.tui.screens.command_line import CommandLine, read_line
from bot.interfaces.tui.screens.dialogs import (
    AnswerDialog,
    ConfirmDialog,
    KeysDialog,
    OutputDialog,
    TextDialog,
    literal,
)
from bot.interfaces.tui.screens.palette import CommandProvider
from bot.interfaces.tui.screens.row_screen import RowScreen
from bot.interfaces.tui.screens.table_page import TablePage
from bot.interfaces.tui.views.output import diff_lines, output_lines
from bot.interfaces.tui.views.status import state_line, tab_line
from bot.interfaces.tui.views.waiting import Waiting, is_shortened, key_of, waiting_items
from bot.interfaces.tui.widgets.cells import fitted
from bot.interfaces.tui.widgets.row_table import RowTable
from bot.interfaces.tui.widgets.text_pane import TextLine
from bot.read_models.agent import AgentModel
from bot.read_models.documents import Document, ReadModel
from bot.read_models.fleet import FleetAgent, FleetModel
from bot.read_models.runs import IssueRunLine, RunLine
from bot.read_models.waiting import AnswerChoice, PendingRequest, WaitingModel
from bot.text.errors import UserError
from core.errors import MusterError

#: Documents that are followed all the time; a page's own is followed while it is shown.
ALWAYS: Final = ("fleet", "waiting")
#: Seconds between two repaints for what changed.
REPAINT_S: Final = 0.5
#: Seconds between two looks at ages.
_TICK_S: Final = 1.0
#: Characters and lines of an answer that is shown as a note; a longer one gets a page.
_NOTE, _NOTE_LINES = 240, 3
#: Characters of other people's words in a question.
_LONGEST_ABOUT: Final = 300
_THEMES: Final = ("textual-dark", "textual-light")


class _Source(Protocol):
    """Where documents come from (`bot.interfaces.tui.feeds.switching_source.SwitchingSource`)."""

    def watch(self, tell: Callable[[SourceState], None]) -> None: ...

    @property
    def state(self) -> SourceState: ...

    def documents(self, names: Collection[str]) -> AsyncGenerator[Document, None]: ...

    async def older(self, name: str, before: str) -> ReadModel | None: ...


class _Orders(Protocol):
    """Where orders go (`bot.interfaces.tui.feeds.orders.CommandOrders`)."""

    async def run(
        self,
        name: str,
        arguments: Mapping[str, str | bool | float],
        *,
        confirmed: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> CommandResult: ...

    async def words(self, source: str) -> list[str]: ...


class StatusBar(Static):
    """Lines of our own words."""

    DEFAULT_CSS = "StatusBar { height: 1; background: $panel; color: $foreground; }"


class Dashboard(App[None]):
    """The whole of it."""

    TITLE = "Muster"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {CommandProvider}
    CSS = """
    ContentSwitcher { height: 1fr; }
    #filter { display: none; height: 1; border: none; }
    #filter.open { display: block; }
    #problem { display: none; height: auto; max-height: 3; background: $warning 20%; color: $text-warning; }
    #problem.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "keys", "Keys"),
        Binding("enter", "open", "Open"),
        Binding("a", "answer('approve')", "Approve"),
        Binding("d", "answer('deny')", "Deny"),
        *(Binding(each.key, f"run_key('{each.key}')", each.label, show=each.key in "rA") for each in RUN_KEYS),
        *(Binding(each.key, f"agent_key('{each.key}')", each.label, show=each.key in "sv") for each in AGENT_KEYS),
        Binding("slash", "filter", "Filter"),
        Binding("colon", "command_line", "Command"),
        Binding("ctrl+e", "emergency_stop", "Emergency stop", show=False),
        Binding("p", "older", "Older", show=False),
        Binding("T", "theme", "Theme", show=False),
        *(Binding(str(number), f"page({number - 1})", show=False) for number in range(1, len(pages.ALL) + 1)),
        Binding("escape", "leave", "Back", show=False),
        Binding("q", "leave(True)", "Quit"),
    ]

    def __init__(
        self,
        source: _Source,
        orders: _Orders,
        table: CommandTable,
        *,
        clock: Callable[[], float] = time.time,
        light: bool = False,
    ) -> None:
        """Take what it shows and does.

        Args:
            source: where documents come from.
            orders: where commands go.
            table: the commands.
            clock: seconds since the epoch.
            light: whether to begin with the light theme.
        """
        super().__init__()
        self.theme = _THEMES[light]
        self._source, self._orders, self.table, self._clock = source, orders, table, clock
        self._latest: dict[str, Document] = {}
        self._changed: set[str] = set()
        self._repaint: Timer | None = None
        self._repainted_at = 0.0
        self._problems: dict[str, str] = {}
        self._lines: list[str] = []
        self.pages: tuple[TablePage[Any], ...] = tuple(_made_pages(clock))
        self._shown = self.pages[0]

    # --- what is on the screen --------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Lay out the main screen."""
        with Vertical():
            yield StatusBar(id="state")
            yield StatusBar(id="tabs")
            yield Static(id="problem")
            with ContentSwitcher(initial=self.pages[0].id):
                yield from self.pages
            yield Input(id="filter", placeholder="filter", compact=True)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to follow."""
        self._source.watch(self._source_changed)
        self.pages[0].table.focus()
        self._show_state()
        self.set_interval(_TICK_S, self._tick)
        self._follow(ALWAYS, "always")

    @property
    def main(self) -> Screen[object]:
        """The screen with the pages."""
        return self.screen_stack[0]

    @property
    def waiting_count(self) -> int:
        """The number of requests and questions that wait."""
        return len(self._waiting())

    @property
    def source_mode(self) -> str:
        """Which way documents come now."""
        return self._source.state.mode

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether a key does something on this page."""
        if action == "run_key":
            return self._shown.shape is pages.RUNS_PAGE and not isinstance(self.screen, AgentScreen)
        if action == "open" and isinstance(self.screen, RowScreen):
            return self.target() is not None
        return not (action in ("open", "filter") and len(self.screen_stack) > 1)

    # --- documents --------------------------------------------------------------------------------------------------

    def _follow(self, names: Sequence[str], group: str) -> None:
        self.run_worker(self._followed(tuple(names), group), group=group, exclusive=True)

    async def _followed(self, names: tuple[str, ...], group: str) -> None:
        try:
            async with contextlib.aclosing(self._source.documents(names)) as documents:
                async for document in documents:
                    self._problems.pop(group, None)
                    self._take(document)
        except MusterError as error:
            self._problems[group] = written(str(error), "")
            self._show_state()

    def _take(self, document: Document) -> None:
        first = document.name not in self._latest
        self._latest[document.name] = document
        self._changed.add(document.name)
        if first:
            self._paint()
        if self._repaint is not None or first:
            return
        wait = self._repainted_at + REPAINT_S - time.monotonic()
        if wait <= 0:
            self._paint()
        else:
            self._repaint = self.set_timer(wait, self._paint)

    def _paint(self) -> None:
        """Show all that changed since the last time."""
        self._repaint, self._repainted_at = None, time.monotonic()
        changed, self._changed = self._changed, set()
        for page in self.pages:
            if page.shape.document in changed and page.is_mounted:
                page.take(self._latest[page.shape.document])
        for screen in self.screen_stack:
            if isinstance(screen, AgentScreen) and screen.document in changed:
                screen.take(self._latest[screen.document])
            elif isinstance(screen, RowScreen):
                screen.tick()
            elif isinstance(screen, AnswerDialog) and "waiting" in changed:
                screen.take(self._waiting().get(screen.key))
        self._show_state()

    def _tick(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, AgentScreen | RowScreen | AnswerDialog):
                screen.tick()
        self._shown.tick()
        self._show_state()

    def _source_changed(self, state: SourceState) -> None:
        self._show_state()

    def _show_state(self) -> None:
        if not self.screen_stack:
            return
        now = self._clock()
        line = state_line(self._source.state, self._fleet(), len(self._waiting()), now)
        problem = " ".join(self._problems.values())
        with contextlib.suppress(NoMatches):
            self.main.query_one("#state", StatusBar).update(styled(line))
            tabs = tab_line(
                [page.shape.title for page in self.pages], self.pages.index(self._shown), len(self._waiting())
            )
            self.main.query_one("#tabs", StatusBar).update(styled(tabs))
            shown = self.main.query_one("#problem", Static)
            shown.set_class(bool(problem), "open")
            shown.update(literal(problem))
        for screen in self.screen_stack:
            if isinstance(screen, AgentScreen | RowScreen):
                said = [TextLine(problem, "warn")] if problem else []
                screen.line.show([TextLine("".join(text for text, _ in line), "dim"), *said])

    def _fleet(self) -> FleetModel | None:
        found = self._latest.get("fleet")
        return found.value if found is not None and isinstance(found.value, FleetModel) else None

    def _waiting(self) -> dict[str, Waiting]:
        found = self._latest.get("waiting")
        if found is None or not isinstance(found.value, WaitingModel):
            return {}
        return {key_of(item): item for item in waiting_items(found.value)}

    # --- pages ------------------------------------------------------------------------------------------------------

    def action_page(self, place: int) -> None:
        """Show a page."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self._shown = page = self.pages[place]
        self.main.query_one(ContentSwitcher).current = page.id
        page.table.focus()
        own = {page.shape.document} - set(ALWAYS)
        self.workers.cancel_group(self, "page")
        self._problems.pop("page", None)
        if own:
            self._follow(sorted(own), "page")
        self._show_filter()
        self.refresh_bindings()
        if (known := self._latest.get(page.shape.document)) is not None:
            page.take(known)
        page.tick()
        self._show_state()

    def action_open(self) -> None:
        """Open what is chosen."""
        if self.screen is self.main:
            self._shown.table.action_choose()
        elif isinstance(self.screen, RowScreen) and (name := self.target()) is not None:
            self.open_agent(name)

    @on(RowTable.Chosen)
    def _chosen(self, event: RowTable.Chosen) -> None:
        item = self._shown.table.selected
        if isinstance(item, FleetAgent):
            self.open_agent(item.name)
        elif self._shown.shape.id == "waiting":
            self._answer(event.key, "")
        elif item is not None and self._shown.shape.text is not None:
            self.push_screen(RowScreen(self._shown, event.key, self._clock))
            self.call_after_refresh(self._show_state)

    def open_agent(self, name: str) -> None:
        """Open an agent's page."""
        screen = AgentScreen(name, self._older_turns, self._clock)
        self.push_screen(screen)
        self._follow([screen.document], "agent")
        if (known := self._latest.get(screen.document)) is not None:
            self.call_after_refresh(screen.take, known)

    async def _older_turns(self, name: str, before: str) -> AgentModel | None:
        page = await self._source.older(name, before)
        return page if isinstance(page, AgentModel) else None

    def action_leave(self, quits: bool = False) -> None:
        """Close the page on top, or clear the filter, or quit."""
        if len(self.screen_stack) > 1:
            if isinstance(self.screen, AgentScreen):
                self.workers.cancel_group(self, "agent")
                self._problems.pop("agent", None)
                self._latest.pop(self.screen.document, None)
            self.pop_screen()
        elif self.query_one("#filter", Input).has_class("open"):
            self.query_one("#filter", Input).value = ""
            self._close_filter()
        elif quits:
            self.exit()

    @work(exclusive=True, group="older")
    async def action_older(self) -> None:
        """Read an older page of what is shown."""
        page = self._shown
        if page.before is None:
            self._note("There is nothing older here.")
            return
        try:
            value = await self._source.older(page.shape.document, page.before)
        except MusterError as error:
            self._note(written(str(error), ""), error=True)
            return
        page.extend(value)

    # --- the filter -------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Type a filter."""
        if self.screen is not self.main:
            return
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def _show_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = self._shown.table.filter_words
        field.set_class(bool(field.value), "open")

    def _close_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.set_class(bool(field.value), "open")
        self._shown.table.focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        self._shown.table.filter(event.value)

    @on(Input.Submitted, "#filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        self._close_filter()

    # --- orders -----------------------------------------------------------------------------------------------------

    def target(self) -> str | None:
        """Return the name of the agent that a key is about, or None."""
        if isinstance(self.screen, AgentScreen):
            return self.screen.agent_name
        item = self._item()
        if isinstance(item, FleetAgent):
            return item.name
        name = getattr(item, "agent", None) or getattr(item, "assigned", None)
        return name if isinstance(name, str) else None

    def _item(self) -> object | None:
        """Return the row that a key is about."""
        return self.screen.item if isinstance(self.screen, RowScreen) else self._shown.table.selected

    @work
    async def action_run_key(self, key: str) -> None:
        """Run the command of a key on the chosen run."""
        pressed = next(each for each in RUN_KEYS if each.key == key)
        run, command = self._item(), self.table.get(pressed.command)
        if not isinstance(run, RunLine | IssueRunLine) or command is None:
            self._note("Choose a run first.", error=True)
            return
        if command.name != "runs allow":
            await self._order(command, {"id": run.id})
            return
        found = run.open_findings[:1] if isinstance(run, IssueRunLine) else ()
        for each in found:
            await self._order(command, {"id": run.id, "mark": each.mark or ""}, about=each.sentence)
        if not found:
            self._note(f"Nothing of {run.id} can be allowed.")

    @work
    async def action_agent_key(self, key: str) -> None:
        """Run the command of a key on the chosen agent."""
        pressed = next(each for each in AGENT_KEYS if each.key == key)
        name, command = self.target(), self.table.get(pressed.command)
        if name is None or command is None:
            self._note("Choose an agent first: page 1 has all of them.", error=True)
            return
        await self._order_on(pressed, name, command)

    async def _order_on(self, pressed: AgentKey, name: str, command: Command) -> None:
        arguments: dict[str, str | bool | float] = {"name": name}
        if pressed.text:
            text = await self.push_screen_wait(TextDialog(f"{pressed.label} to {name}", _summary(command)))
            if text is None:
                return
            arguments["text"] = text
        await self._order(command, arguments)

    async def _order(self, command: Command, arguments: Mapping[str, str | bool | float], *, about: str = "") -> None:
        """Run a command, after a question if it is destructive, and show what it said.

        Args:
            command: the command.
            arguments: its arguments.
            about: what the question is about, beside the command's line.
        """
        name = str(arguments.get("name", ""))
        detail = ASKED.get(command.name, "") if not arguments.get("clear") else "Agents may go out again."
        if about:
            detail = f"{fitted(about, _LONGEST_ABOUT).rstrip()}\n{detail}"
        if command.asks(arguments) or detail:
            if command.informs:
                informed = await self._orders.run(command.name, arguments, progress=lambda text: self._note(text))
                if informed.pinned is None:
                    self.show_result(f"{command.name} {name}".strip(), informed)
                    return
                arguments, detail = {**arguments, **informed.pinned}, informed.text
            question = f"Really {line_of(command, arguments)}?"
            if command.asks(arguments):
                detail = f"{detail} {written(command.undo_words, '')}".strip()
            if not await self.push_screen_wait(
                ConfirmDialog(question, detail, yes=command.name.split()[-1].capitalize())
            ):
                return
        result = await self._orders.run(
            command.name, arguments, confirmed=command.asks(arguments), progress=lambda text: self._note(text)
        )
        self.show_result(f"{command.name} {name}".strip(), result)

    def show_result(self, title: str, result: CommandResult) -> None:
        """Show what a command said: a note if it is short, else a page."""
        if result.diff:
            self.push_screen(OutputDialog(title, [*output_lines(result.text), *diff_lines(result.diff)]))
        elif len(result.text) <= _NOTE and result.text.count("\n") < _NOTE_LINES:
            self._note(result.text or "Done.", error=not result.done)
        else:
            self.push_screen(OutputDialog(title, output_lines(result.text)))

    def _note(self, text: str, *, error: bool = False) -> None:
        self.notify(literal(text).plain, severity="error" if error else "information", markup=False)

    # --- answers ----------------------------------------------------------------------------------------------------

    def action_answer(self, command: str) -> None:
        """Show the chosen request, or the oldest of the chosen agent, with this answer proposed."""
        if self._shown.shape.id == "waiting" and self.screen is self.main:
            item = self._shown.table.selected
            if item is not None:
                self._answer(self._shown.shape.table.key(item), command)
            return
        name = self.target()
        mine = [key for key, item in self._waiting().items() if isinstance(item, PendingRequest) and item.agent == name]
        if mine:
            self._answer(mine[0], command)
        else:
            self._note(f"{name or 'No agent'} waits for no answer.")

    @work
    async def _answer(self, key: str, command: str) -> None:
        item = self._waiting().get(key)
        if item is None:
            self._note("This was answered elsewhere.")
            return
        all_of_it = await self._whole(item)
        if all_of_it is None:
            return
        dialog = AnswerDialog(all_of_it, self._clock, command=command, listed=item)
        choice: AnswerChoice | None = await self.push_screen_wait(dialog)
        if choice is None:
            return
        result = await self._orders.run(choice.command, choice.arguments)
        self.show_result(f"{choice.command} {item.id}", result)

    async def _whole(self, item: Waiting) -> Waiting | None:
        """Return a request or question with its whole text; None, after saying why, if that cannot be read."""
        if not is_shortened(item):
            return item
        try:
            page = await self._source.older("waiting", item.id)
        except MusterError as error:
            self._note(f"All of it cannot be read: {error}", error=True)
            return None
        found = waiting_items(page) if isinstance(page, WaitingModel) else ()
        if not found:
            self._note("This was answered elsewhere.")
        return found[0] if found else None

    # --- commands ---------------------------------------------------------------------------------------------------

    @work
    async def action_command_line(self, begin: str = "") -> None:
        """Type a command."""
        line = await self.push_screen_wait(CommandLine(self.table, self._orders.words, self._lines, begin=begin))
        if line is not None:
            self._lines.append(line)
            await self._run_line(line)

    async def _run_line(self, line: str) -> None:
        try:
            command, arguments = read_line(self.table, line)
        except UserError as error:
            self._note(str(error), error=True)
            return
        await self._order(command, arguments)

    def palette_entries(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        """Return the pages, and every command of the table."""
        for place, page in enumerate(self.pages):
            yield f"page {page.shape.title}", f"key {place + 1}", _calls(self.action_page, place)
        yield "theme", "dark or light", self.action_theme
        yield "keys", "what each key does", self.action_keys
        for command in self.table:
            yield command.name, _summary(command), _calls(self.choose_command, command.name)

    def choose_command(self, name: str) -> None:
        """Run a command that takes nothing, or begin its line."""
        command = self.table.get(name)
        if command is None:
            return
        if command.parameters:
            self.action_command_line(f"{name} ")
        else:
            self.run_worker(self._run_line(name))

    @work
    async def action_emergency_stop(self) -> None:
        """Close every agent's way out."""
        command = self.table.get("estop")
        if command is not None:
            await self._order(command, {})

    def action_theme(self) -> None:
        """Change between dark and light."""
        self.theme = _THEMES[self.theme == _THEMES[0]]

    def action_keys(self) -> None:
        """Show the keys."""
        self.push_screen(KeysDialog("Keys", keys_text()))


def styled(parts: Sequence[tuple[str, str]]) -> Content:
    """Return a line of texts with our own styles; the texts are never markup."""
    return Content("").join([literal(text).stylize(style) if style else literal(text) for text, style in parts])


def _calls(function: Callable[..., object], value: int | str) -> Callable[[], None]:
    def call() -> None:
        function(value)

    return call


def _summary(command: Command) -> str:
    return command.summary.replace("`", "")


def _made_pages(clock: Callable[[], float]) -> Iterable[TablePage[Any]]:
    for shape in pages.ALL:
        yield TablePage(shape, clock=clock)
