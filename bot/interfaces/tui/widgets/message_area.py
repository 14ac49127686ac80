"""A field for a message of several lines."""

from __future__ import annotations

import unicodedata
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Paste
from textual.message import Message
from textual.widgets import TextArea


class MessageArea(TextArea):
    """Enter sends; Ctrl-j, Shift-Enter and Alt-Enter begin a new line. What is pasted keeps its lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", priority=True),
        # Not every terminal tells Shift-Enter and Alt-Enter from Enter.
        Binding("ctrl+j,shift+enter,alt+enter", "new_line", "New line", priority=True),
    ]

    class Sent(Message):
        """The text is complete."""

        def __init__(self, text: str) -> None:
            """Take the text."""
            super().__init__()
            self.text = text

    def on_mount(self) -> None:
        """Let the cursor stay."""
        self.cursor_blink = False

    def action_send(self) -> None:
        """Send the text, unless it is empty."""
        if self.text.strip():
            self.post_message(self.Sent(self.text))

    def action_new_line(self) -> None:
        """Begin a new line at the cursor."""
        self.insert("\n")

    async def _on_paste(self, event: Paste) -> None:
        """Insert what was pasted, without what a terminal would obey."""
        event.prevent_default()
        event.stop()
        lines = event.text.replace("\r\n", "\n").replace("\r", "\n")
        self.insert("".join(sign for sign in lines if sign in "\n\t" or unicodedata.category(sign) != "Cc"))
