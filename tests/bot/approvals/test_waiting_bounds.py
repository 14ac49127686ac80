"""What waits has a bound, and nothing can be allowed where it is not shown whole."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bot.approvals.waiting_bounds import LEAST, LONGEST, TOTAL, alone, bounded
from bot.read_models.waiting import AnswerChoice, PendingQuestion, PendingRequest, WaitingModel

CHOICES = (
    AnswerChoice(word="allow", mark="✅", label="Allow once", command="approve"),
    AnswerChoice(word="all", mark="⏩", label="Allow all", command="approve", arguments={"all": True}),
    AnswerChoice(word="deny", mark="❌", label="Deny", command="deny"),
)


def request(id: str, detail: str, *together: str) -> PendingRequest:
    return PendingRequest(
        id=id, agent="coder0", title=detail, detail=detail, choices=CHOICES, asked_at=1.0, expires_at=2.0,
        together=together,
    )  # fmt: skip


def words(of: PendingRequest) -> list[str]:
    return [each.word for each in of.choices]


def test_short_texts_stay_as_they_are() -> None:
    model = WaitingModel(
        requests=(request("a", "npm test", "b"), request("b", "x" * 100)),
        questions=(PendingQuestion(id="q", kind="task", text="Go on?", choices=CHOICES, asked_at=1.0),),
    )
    assert bounded(model) == model


@pytest.mark.parametrize("letter", ["x", "é", "😀", "\ud800"])
def test_a_long_command_is_its_beginning_and_cannot_be_allowed(letter: str) -> None:
    detail = letter * LONGEST + "; rm -rf /"
    [found] = bounded(WaitingModel(requests=(request("a", detail),))).requests
    assert detail.startswith(found.detail)
    assert LONGEST - 4 <= len(found.detail.encode(errors="replace")) <= LONGEST
    assert found.detail_size == len(detail)
    assert words(found) == ["deny"]
    assert found.title.endswith("…")
    assert len(found.title) < 500


def test_all_of_it_has_a_bound_and_the_oldest_have_most_of_it() -> None:
    model = WaitingModel(requests=tuple(request(str(number), "<" * 10_000) for number in range(1_000)))
    found = bounded(model)
    sizes = [len(each.detail) for each in found.requests]
    assert sizes[0] == LONGEST
    assert set(sizes[8:]) == {LEAST}
    assert sum(sizes) <= TOTAL + 1_000 * LEAST
    assert len(json.dumps([each.title for each in found.requests])) < 600_000


def test_a_request_is_not_allowed_together_with_one_that_is_not_all_there() -> None:
    found = bounded(WaitingModel(requests=(request("a", "npm test", "b"), request("b", "x" * 9_000)))).requests
    assert words(found[0]) == ["allow", "deny"]


def test_a_long_question_has_no_answers() -> None:
    question = PendingQuestion(id="q", kind="task", text="x" * 9_000, choices=CHOICES, asked_at=1.0)
    [found] = bounded(WaitingModel(questions=(question, replace(question, id="r", text=None)))).questions[:1]
    assert (found.choices, found.text_size, len(found.text or "")) == ((), 9_000, LONGEST)


def test_its_page_has_the_request_whole_and_alone() -> None:
    model = WaitingModel(requests=(request("a", "x" * 9_000, "b"), request("b", "npm test")))
    found = alone(model, "a")
    assert found is not None
    [whole] = found.requests
    assert (whole.detail, whole.detail_size, words(whole)) == ("x" * 9_000, None, ["allow", "deny"])
    assert found.questions == ()
    assert alone(model, "c") is None
