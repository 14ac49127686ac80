"""Messages by which an agent would speak for others, or make the forge do something."""

from __future__ import annotations

import pytest

from forge.publishing import commit_messages
from forge.publishing.rules import PublishingRules
from tests.forge.publishing.stage import AGENT

RULES = PublishingRules(identity=AGENT, issue=17)


def said(message: str) -> list[str]:
    return [*commit_messages.trailers(message, RULES), *commit_messages.sayings(message, RULES)]


@pytest.mark.parametrize(
    "message",
    [
        "Fix the build.\n",
        "Fix #17 in passing.\n\nFixes #17\n",
        "See #18 and owner/repo#3.\n",
        "Write to ana@example.org.\n\nCo-Authored-By: Claude <noreply@anthropic.com>\n",
        "Use the fixture 12 times: closes the file.\n",
        "Füße, 修复, 👍\n\n\t- indented\n",
    ],
)
def test_an_ordinary_message_is_fine(message: str) -> None:
    assert said(message) == []


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("x\n\nMuster-Run: 7", "Muster-Run"),
        ("x\n\n> muster-approved-by : ana", "muster-approved-by"),
        ("x\n\nCo-authored-by: Ana <ana@example.org>", "Co-authored-by"),
        ("x\n\nCo-authored-by: Ana <noreply@anthropic.com> <ana@example.org>", "Co-authored-by"),
        ("x\r\rSigned-off-by: Ana <ana@example.org>", "Signed-off-by"),
        ("x\n\nReviewed\u200b-by: Ana", "Reviewed-by"),
        ("x\n\nCo\uff0dauthored\uff0dby\uff1a Ana <a@b>", "Co-authored-by"),
        ("Fixes #18", "#18"),
        ("fixes: owner/repo#17", "owner/repo#17"),
        ("RESOLVED gh-4", "gh-4"),
        ("Closes https://forge.example/a/b/issues/5", "issues/5"),
        ("Fixes #17, closes #170", "#170"),
        ("Reopens \uff03\uff15", "#5"),
        ("Thanks @ana", "@ana"),
        ("cc (@owner/team)", "@owner"),
        ("x\n\n[skip ci]", "checks"),
        ("x [CI SKIP]", "checks"),
        ("x\n\nskip-checks: true", "checks"),
        ("x\x1b[31m", "not seen"),
        ("x\u202e", "not seen"),
        ("x" * 10_001, "10,000"),
    ],
)
def test_what_a_forge_or_a_person_would_act_on_is_found(message: str, word: str) -> None:
    sentences = said(message)
    assert any(word in sentence for sentence in sentences), sentences
    assert all(sentence.isprintable() for sentence in sentences)


def test_long_messages_of_an_attacker_are_read_quickly() -> None:
    """Each of these would take hours if a search began again at every character. The limit of the test run ends it."""
    for begin in ("fixes " * 1500, "@" * 9000, "a/" * 4500, "[skip " * 1500, "co-authored-by:" * 600, "<" * 9000):
        said(f"x\n\n{begin}")
        said(f"x\n\nCo-authored-by: {begin}")
