"""Bounds the text of what waits, which dashboards hold and get again whenever any of it changes. Pure.

An agent may ask with a text of any length. Nobody may allow what they were not shown, so a request that is shortened
here can only be denied. The page of the request alone has the whole text and all answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bot.read_models.waiting import PendingQuestion, PendingRequest, WaitingModel

#: Bytes (UTF-8) of one text, and of all of them together.
LONGEST: Final = 8 * 1024
TOTAL: Final = 64 * 1024
#: Bytes that each text has in any case.
LEAST: Final = 240
_LONGEST_TITLE: Final = 480


def bounded(model: WaitingModel) -> WaitingModel:
    """Return what waits with shorter texts. The oldest have the most room; secrets must be masked before."""
    room = TOTAL
    requests: list[PendingRequest] = []
    for request in model.requests:
        detail = _beginning(request.detail, max(LEAST, min(LONGEST, room)))
        room -= len(detail.encode(errors="replace"))
        title = _beginning(request.title, _LONGEST_TITLE)
        size = None if detail == request.detail else len(request.detail)
        requests.append(
            replace(request, title=title if title == request.title else f"{title}…", detail=detail, detail_size=size)
        )
    questions: list[PendingQuestion] = []
    for question in model.questions:
        text = _beginning(question.text or "", max(LEAST, min(LONGEST, room)))
        room -= len(text.encode(errors="replace"))
        is_whole = text == (question.text or "")
        questions.append(
            question if is_whole else replace(question, text=text, text_size=len(question.text or ""), choices=())
        )
    shortened = {each.id for each in requests if each.detail_size is not None}
    return WaitingModel(
        requests=tuple(_with_safe_choices(each, shortened) for each in requests), questions=tuple(questions)
    )


def alone(model: WaitingModel, id: str) -> WaitingModel | None:
    """Return one request or question with its whole text; None if it does not wait.

    Its other requests are not shown with it, so they cannot be allowed together with it.
    """
    requests = tuple(
        replace(each, choices=tuple(choice for choice in each.choices if choice.word != "all"))
        for each in model.requests
        if each.id == id
    )
    questions = tuple(each for each in model.questions if each.id == id)
    return WaitingModel(requests=requests, questions=questions) if requests or questions else None


def _with_safe_choices(request: PendingRequest, shortened: Iterable[str]) -> PendingRequest:
    """Return a request without the answers that allow something that is not shown."""
    if request.detail_size is not None:
        choices = tuple(each for each in request.choices if each.command == "deny")
    elif not set(request.together).isdisjoint(shortened):
        choices = tuple(each for each in request.choices if each.word != "all")
    else:
        return request
    return replace(request, choices=choices)


def _beginning(text: str, most: int) -> str:
    """Return the beginning of a text that has at most so many bytes, in whole characters."""
    if len(text) * 4 <= most:
        return text
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return text
    return text[: len(encoded[:most].decode(errors="ignore"))]
