"""Dialogs: a confirmation, a line of text, an answer to a request, an answer of a command, the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static
from textual.widgets.button import ButtonVariant

from bot.interfaces.tui.views.waiting import Waiting, first_choice, key_of, label_of, whole
from bot.interfaces.tui.widgets.cells import safe
from bot.interfaces.tui.widgets.message_area import MessageArea
from bot.interfaces.tui.widgets.text_pane import TextLine, TextPane
from bot.read_models.waiting import AnswerChoice

_BOX = """
    align: center middle;
    background: $background 60%;
    & > Vertical {
        width: 90%; max-width: 110; height: auto; max-height: 90%;
        border: round $primary; background: $surface; padding: 0 1;
    }
    & .head { width: 1fr; text-style: bold; height: auto; }
    & .hint { width: 1fr; color: $foreground 60%; height: auto; }
    & Horizontal { height: auto; align-horizontal: right; }
    & Button { margin: 0 0 0 1; min-width: 8; }
"""


def literal(text: str) -> Content:
    """Return a text that is never read as markup."""
    return Content(safe(text))


class ConfirmDialog(ModalScreen[bool]):
    """Asks whether to do something. The default is no."""

    DEFAULT_CSS = f"ConfirmDialog {{ {_BOX} }}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
        Binding("left,right", "app.focus_next", "Other", show=False),
    ]

    def __init__(self, question: str, detail: str = "", *, yes: str = "Do it") -> None:
        """Take what is asked.

        Args:
            question: the question.
            detail: what it means, in a sentence.
            yes: the words of the button that does it.
        """
        super().__init__()
        self._question, self._detail, self._yes = question, detail, yes

    def compose(self) -> ComposeResult:
        """Lay out the dialog."""
        with Vertical():
            yield Static(literal(self._question), classes="head")
            if self._detail:
                yield Static(literal(self._detail), classes="hint")
            with Horizontal():
                yield Button(literal("No (n)"), id="no", compact=True)
                yield Button(literal(f"{self._yes} (y)"), id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        """Begin at no."""
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """Answer."""
        self.dismiss(yes)


class TextDialog(ModalScreen[str | None]):
    """Asks for a text of one line or more."""

    DEFAULT_CSS = f"""
    TextDialog {{ {_BOX} }}
    TextDialog MessageArea {{ height: 6; border: none; padding: 0; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, title: str, hint: str = "") -> None:
        """Take what is asked for."""
        super().__init__()
        self._title, self._hint = title, hint

    def compose(self) -> ComposeResult:
        """Lay out the dialog."""
        with Vertical():
            yield Static(literal(self._title), classes="head")
            yield MessageArea()
            keys = "Enter sends it, Ctrl-j begins a new line, Esc cancels."
            yield Static(literal(f"{self._hint} {keys}".strip()), classes="hint")

    @on(MessageArea.Sent)
    def _sent(self, event: MessageArea.Sent) -> None:
        self.dismiss(event.text)


class OutputDialog(ModalScreen[None]):
    """Shows an answer of a command in full."""

    DEFAULT_CSS = f"""
    OutputDialog {{ {_BOX} }}
    OutputDialog > Vertical {{ width: 100%; max-width: 100%; height: 100%; max-height: 100%; }}
    OutputDialog TextPane {{ height: 1fr; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss(None)", "Close"),
    ]

    def __init__(self, title: str, lines: Sequence[TextLine]) -> None:
        """Take the answer."""
        super().__init__()
        self._title, self._lines = title, lines

    def compose(self) -> ComposeResult:
        """Lay out the dialog."""
        with Vertical():
            yield Static(literal(self._title), classes="head")
            yield TextPane(self._lines)
            yield Static(literal("↑ ↓ scroll · Esc closes"), classes="hint")


class AnswerDialog(ModalScreen[AnswerChoice | None]):
    """Shows a request or a question in full, and takes an answer. It is about this one alone, whatever comes after."""

    DEFAULT_CSS = f"""
    AnswerDialog {{ {_BOX} }}
    AnswerDialog > Vertical {{ height: 90%; }}
    AnswerDialog TextPane {{ height: 1fr; min-height: 3; }}
    AnswerDialog VerticalScroll {{ height: auto; max-height: 8; }}
    AnswerDialog Button {{ width: 1fr; margin: 0; content-align: left middle; text-align: left; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Later"),
        Binding("up", "app.focus_previous", "Up", show=False),
        Binding("down", "app.focus_next", "Down", show=False),
        Binding("pageup", "scroll(-1)", "Scroll", show=False),
        Binding("pagedown,space", "scroll(1)", "Scroll", show=False),
        *(Binding(str(number), f"choose({number - 1})", str(number), show=False) for number in range(1, 10)),
    ]

    def __init__(
        self, item: Waiting, clock: Callable[[], float], *, command: str = "", listed: Waiting | None = None
    ) -> None:
        """Take what waits.

        Args:
            item: the request or the question, whole.
            clock: seconds since the epoch.
            command: the command of the choice that is proposed; empty: none is.
            listed: what the document has of it, if that is shortened.
        """
        super().__init__()
        self._item, self._clock = item, clock
        self._listed = item if listed is None else listed
        self._proposed = first_choice(item, command) if command else None
        self._gone = False
        self._pane = TextPane(whole(item, clock()))

    def compose(self) -> ComposeResult:
        """Lay out the dialog."""
        with Vertical():
            yield Static(literal(f"{self._item.agent or self._item.id}: {self._item.id}"), classes="head")
            yield self._pane
            yield Static("", classes="hint", id="hint")
            with VerticalScroll(can_focus=False):
                for place, choice in enumerate(self._item.choices):
                    variant = {"good": "success", "danger": "error"}.get(choice.style, "default")
                    label = literal(f"{place + 1} {label_of(choice)}")
                    yield Button(label, id=f"choice{place}", variant=_variant(variant), compact=True)
            yield Button(literal("Esc Later"), id="later", compact=True)

    def on_mount(self) -> None:
        """Begin at the proposed choice, else at none that does anything."""
        self.query_one("#later" if self._proposed is None else f"#choice{self._proposed}").focus()
        self.call_after_refresh(self._show_rest)

    @on(TextPane.Scrolled)
    def _show_rest(self) -> None:
        """Say how much of it is below, so that nobody takes the beginning for all of it."""
        if self._gone:
            return
        below = self._pane.rows_below
        rest = f"▼ {below:,} more row{'' if below == 1 else 's'} below: PgDn" if below else "Its end is in view"
        self._hint(f"{rest} · digit chooses · Enter answers · Esc later")

    @property
    def key(self) -> str:
        """The key of what is asked."""
        return key_of(self._item)

    def take(self, item: Waiting | None) -> None:
        """Learn what became of it; None: it no longer waits."""
        if self._gone:
            return
        if item is None or (item != self._listed and not _same_question(item, self._listed)):
            self._gone = True
            for button in self.query(Button):
                button.disabled = button.id != "later"
            self.query_one("#later").focus()
            self._hint("This was answered elsewhere, or it ended. Nothing was sent from here. Esc closes.")

    def tick(self) -> None:
        """Show what only time changed."""
        if not self._gone:
            self._pane.show(whole(self._item, self._clock()))
            self._show_rest()

    def _hint(self, text: str) -> None:
        self.query_one("#hint", Static).update(literal(text))

    def action_scroll(self, by: int) -> None:
        """Scroll the request."""
        (self._pane.action_page_down if by > 0 else self._pane.action_page_up)()

    def action_choose(self, place: int) -> None:
        """Move to a choice; Enter answers."""
        if not self._gone and place < len(self._item.choices):
            self.query_one(f"#choice{place}").focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        name = event.button.id or ""
        if name.startswith("choice") and not self._gone:
            self.dismiss(self._item.choices[int(name.removeprefix("choice"))])
        elif name == "later":
            self.dismiss(None)


def _same_question(one: Waiting, other: Waiting) -> bool:
    """Return whether only the state of a request differs, and not what is asked."""
    return type(one) is type(other) and one.choices == other.choices and whole(one, 0.0)[1:] == whole(other, 0.0)[1:]


def _variant(name: str) -> ButtonVariant:
    return "success" if name == "success" else "error" if name == "error" else "default"


class KeysDialog(OutputDialog):
    """Shows the keys. `?` closes it, too."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "dismiss(None)", "Close")]
