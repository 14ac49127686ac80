"""What people read of a question on the side."""

from __future__ import annotations

from bot.agents.journal.aside_text import answer
from bot.commands.syntax import written
from core.redaction import SecretMasker
from fleet.journal.events import AsideEnded

REDACT = SecretMasker(known=frozenset({"hunter2-hunter2"}))


def told(question: str = "why?", **ended: object) -> str:
    return written(answer("coder0", question, AsideEnded(id="q1", **ended), REDACT), "!")  # type: ignore[arg-type]


def test_an_answer_is_marked_and_says_what_it_is_based_on() -> None:
    assert told(outcome="answered", text="because", forked=True) == "💬 **coder0, on the side**: `why?`\n\nbecause"
    assert "answered from a summary" in told(outcome="answered", text="because")


def test_secrets_are_masked_in_question_answer_and_titles() -> None:
    text = told("is it hunter2-hunter2?", outcome="answered", text="hunter2-hunter2", refused=("Read hunter2-hunter2",))
    assert "hunter2" not in text
    assert "It may only read, and was refused:" in text


def test_a_failure_keeps_what_was_said_and_says_what_to_do() -> None:
    text = told(outcome="failed", text="half", forked=True, detail="No answer came within 300 s.")
    assert text.startswith("✖ **The question on the side to coder0 was not answered**: `why?`\n\nhalf\n\n")
    assert "No answer came within 300 s." in text
    assert "`!btw coder0 TEXT` asks again." in text


def test_what_was_changed_without_asking_is_named() -> None:
    text = told(outcome="failed", changed=("Write a.txt",), detail="It was stopped.")
    assert "It did this without asking: `Write a.txt`. Look at the workspace." in text


def test_a_loss_without_its_question_is_told_all_the_same() -> None:
    assert told("", outcome="lost", detail="It ended.").startswith("✖ **The question on the side to coder0 is lost**\n")
