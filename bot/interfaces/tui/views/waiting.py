"""What waits for an answer."""

from __future__ import annotations

from typing import Final, TypeAlias

from bot.interfaces.tui.views.fleet import ago
from bot.interfaces.tui.widgets.row_table import Cell, TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import TextLine
from bot.read_models.waiting import AnswerChoice, PendingQuestion, PendingRequest, WaitingModel
from bot.text.markdown import span
from core.redaction import MASK

Waiting: TypeAlias = PendingRequest | PendingQuestion


def key_of(item: Waiting) -> str:
    """Return what names a request or a question."""
    return ("request " if isinstance(item, PendingRequest) else "question ") + item.id


def waiting_items(model: WaitingModel) -> tuple[Waiting, ...]:
    """Return all that waits, oldest first."""
    return tuple(sorted((*model.requests, *model.questions), key=lambda item: item.asked_at))


def gist(item: Waiting) -> str:
    """Return the beginning of what is asked."""
    return item.title if isinstance(item, PendingRequest) else item.text or "its text is no longer kept"


def _left(item: Waiting, now: float) -> Cell:
    if isinstance(item, PendingQuestion):
        return "", ""
    if item.state == "answering":
        return "answering", "dim"
    left = item.expires_at - now
    return span(left), "bad" if left < 60 else "warn" if left < 300 else ""


def _words(item: Waiting) -> str:
    return f"{item.id} {item.agent or ''} {gist(item)}".casefold()


WAITING: Final = TableShape[Waiting](
    columns=(
        TableColumn(title="ID", width=8, order=lambda w: (w.id,), cell=lambda w, _: (w.id, "")),
        TableColumn(title="WHO", width=11, grows=1, order=lambda w: (w.agent or "",),
                    cell=lambda w, _: (w.agent or "-", "")),
        TableColumn(title="ASKS", width=20, grows=5, cell=lambda w, _: (gist(w), "")),
        TableColumn(title="ASKED", width=7, right=True, rank=1, order=lambda w: (w.asked_at,),
                    cell=lambda w, now: (ago(w.asked_at, now), "dim")),
        TableColumn(title="DENIED IN", width=9, right=True, cell=_left,
                    order=lambda w: (w.expires_at if isinstance(w, PendingRequest) else float("inf"),)),
    ),
    key=key_of,
    words=_words,
    empty="Nobody waits for an answer.",
)  # fmt: skip


def whole(item: Waiting, now: float) -> list[TextLine]:
    """Return all that a person must know to answer. What is shortened says so, and `is_shortened` is true of it."""
    if isinstance(item, PendingQuestion):
        about = " ".join(filter(None, (item.agent or "", f"task {item.task}" if item.task else "")))
        lines = [TextLine(f"{about or item.kind} · asked {ago(item.asked_at, now)} ago", "strong")]
        lines.append(TextLine(item.text or "Its message is no longer kept. :questions may still have it."))
        return lines if item.text_size is None else [*lines, _shortened(len(item.text or ""), item.text_size)]
    left = (
        "answered, and not yet confirmed" if item.state == "answering" else f"denied in {span(item.expires_at - now)}"
    )
    lines = [TextLine(f"{item.agent} asks for permission · {left}", "strong")]
    lines.append(TextLine(item.detail or item.title))
    if item.detail_size is not None:
        lines.append(_shortened(len(item.detail), item.detail_size))
    if item.detail and item.title and item.title not in item.detail:
        lines.insert(1, TextLine(item.title, "dim"))
    if MASK in item.detail:
        lines.append(
            TextLine("Parts of it look like secrets and are hidden here. The agent would run them too.", "warn")
        )
    if item.together:
        lines.append(TextLine(f"{item.agent} has {len(item.together)} more: {', '.join(item.together)}", "dim"))
    return lines


def is_shortened(item: Waiting) -> bool:
    """Return whether a request or question is not all there. Its page has all of it."""
    return (item.detail_size if isinstance(item, PendingRequest) else item.text_size) is not None


def _shortened(shown: int, size: int) -> TextLine:
    return TextLine(f"These are {shown:,} of {size:,} characters. Answering shows all of it first.", "warn")


def first_choice(item: Waiting, command: str) -> int:
    """Return the place of the first choice that runs this command; 0 if none does."""
    return next((place for place, each in enumerate(item.choices) if each.command == command), 0)


def label_of(choice: AnswerChoice) -> str:
    """Return the words of a choice."""
    return f"{choice.label}{' (admins)' if choice.needs_admin else ''}"
