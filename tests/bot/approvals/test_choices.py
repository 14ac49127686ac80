"""A permission request shows the whole of what is to be allowed, and no answer is what it does not seem."""

from __future__ import annotations

import html as entities
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.approvals.choices import by_mark, choices_of, offered, question
from bot.commands.syntax import written
from bot.text import markdown as rendering
from database.queries.chat.approvals import Approval

ONCE = {"id": "o1", "name": "Allow once", "kind": "allow_once"}
ALWAYS = {"id": "o2", "name": "Always Allow Bash(echo *)", "kind": "allow_always"}
REJECT = {"id": "o3", "name": "No", "kind": "reject_once"}


def approval(
    detail: str = "ls", title: str = "ls", options: tuple[dict[str, str], ...] = (ONCE, ALWAYS, REJECT)
) -> Approval:
    return Approval(
        id="a1b2",
        agent="coder0",
        incarnation=1,
        session="s",
        request="1",
        digest="d",
        title=title,
        detail=detail,
        options=options,
        state="pending",
        outbox_key="a/1",
        asked_at=0,
        expires_at=60,
    )


def asked(detail: str = "ls", title: str = "ls", options: tuple[dict[str, str], ...] = (ONCE, ALWAYS, REJECT)) -> str:
    return written(question(approval(detail, title, options), str, until="12:30", marks=True), "!")


def block_of(markdown: str) -> str:
    """What stands in the first code block, as a browser shows it."""
    found = re.search(r"<pre><code>(.*?)</code></pre>", rendering.html(markdown), re.S)
    assert found is not None
    return entities.unescape(found[1])


# --- reactions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("✅", "allow"),
        ("👍🏽", "allow"),
        ("☑️", "allow"),
        ("♾️", "always"),
        ("♾", "always"),
        ("❌", "deny"),
        ("👎🏿", "deny"),
        ("✖️", "deny"),
    ],
)
def test_a_reaction_means_its_answer_in_every_skin(mark: str, name: str) -> None:
    assert by_mark(mark) == name


@pytest.mark.parametrize("mark", ["", "✅✅", "👀", "allow", "✅ ", "\ufe0f", "\U0001f3fb", "❌✅"])
def test_other_reactions_mean_nothing(mark: str) -> None:
    assert by_mark(mark) is None


@given(st.text())
def test_only_known_marks_are_answers(mark: str) -> None:
    assert by_mark(mark) is None or any(char in mark for char in "✅👍☑♾🔁❌👎✖")


# --- what is offered ---------------------------------------------------------------------------------------------


def test_always_is_remembered_by_muster_and_the_runtime_hears_once() -> None:
    choices = {choice.name: choice.option for choice in offered([ALWAYS, ONCE, REJECT])}
    assert choices == {"allow": "o1", "always": "o1", "deny": "o3"}


@pytest.mark.parametrize(
    "options",
    [
        [],
        [ONCE],
        [ONCE, {**REJECT, "id": ""}],
        [{"id": "x", "kind": "new_kind"}],
        [{"id": "y"}],
        [{"kind": "allow_once"}],
    ],
)
def test_denying_is_always_offered_and_nothing_of_an_unknown_kind_is(options: list[dict[str, str]]) -> None:
    choices = offered(options)
    assert choices[-1].name == "deny"
    assert choices[-1].option is None
    assert {choice.option for choice in choices} <= {"o1", None}


@given(st.permutations([ONCE, ALWAYS, REJECT, {"id": "o4", "name": "Never", "kind": "reject_always"}]))
def test_the_order_of_the_options_does_not_matter(options: list[dict[str, str]]) -> None:
    choices = {choice.name: choice.option for choice in offered(options)}
    assert choices == {"allow": "o1", "always": "o1", "deny": "o3"}


def test_every_offered_mark_means_its_choice() -> None:
    for choice in offered([ONCE, ALWAYS, REJECT]):
        assert by_mark(choice.mark) == choice.name


# --- the question ------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from([*"ab `~\n|<&*\\", "\x1b", "\u202e", "\u200b"]), min_size=1))
def test_the_whole_command_stands_in_the_question(command: str) -> None:
    assert block_of(asked(command)).rstrip("\n") == rendering.shown(command).rstrip("\n")


def test_a_short_command_stands_once_and_what_its_title_does_not_say_stands_whole() -> None:
    assert asked("make test", "make test").count("make test") == 1
    assert "curl x" in asked("make test; curl x", "make test")
    assert block_of(asked("make  test", "make  test")).rstrip() == "make  test", "a title has one blank"


@pytest.mark.parametrize(
    "command", ["x " * 50_000 + "&& rm -rf ~", "a\n" * 20_000 + "the end", "rm dir\\ ", "y" * 100_000]
)
def test_no_command_is_too_long_to_be_shown_whole(command: str) -> None:
    assert command in asked(command)


def test_a_command_cannot_end_its_block_and_answer_in_the_bots_words() -> None:
    command = "ls\n```\n- ❌ deny: `!approve a1b2`\n````\n<b>\n\n~~~\n# Approved"
    assert block_of(asked(command)).rstrip("\n") == command
    assert "<h1>" not in rendering.html(asked(command))


def test_the_question_names_agent_request_answers_and_time() -> None:
    text = asked()
    for part in (
        "**coder0**",
        "`a1b2`",
        "✅ Allow once: `!approve a1b2`",
        "♾️ Always allow exactly this: `!approve a1b2 --always`",
        "❌ Deny: `!deny a1b2`",
        "`!approve a1b2`",
        "`!approve a1b2 --always`",
        "`!deny a1b2`",
        "12:30",
    ):
        assert part in text
    assert "✅" not in question(approval(), str, until="12:30", marks=False)


@pytest.mark.parametrize("name", ["Reject", "no: `!deny a1b2`", "x\n- ❌ deny: `!approve a1b2`", "\u202eyned"])
@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("allow_once", ["- ✅ Allow once: `!approve a1b2`", "- ❌ Deny: `!deny a1b2`"]),
        (
            "allow_always",
            [
                "- ♾️ Always allow, which the runtime remembers as well: `!approve a1b2 --always`",
                "- ❌ Deny: `!deny a1b2`",
            ],
        ),
        ("reject_always", ["- ❌ Deny: `!deny a1b2`"]),
        ("allow_everything", ["- ❌ Deny: `!deny a1b2`"]),
    ],
)
def test_a_runtimes_own_names_of_its_options_are_never_shown(name: str, kind: str, shown: list[str]) -> None:
    text = asked(options=({"id": "o1", "name": name, "kind": kind}, REJECT))
    assert [line for line in text.split("\n") if line.startswith("- ")] == shown
    assert name not in text.replace("Deny", "")


def test_where_a_runtime_can_only_reject_for_always_denying_says_so() -> None:
    (deny,) = offered([{"id": "o4", "name": "No, once", "kind": "reject_always"}])
    assert (deny.name, deny.option, deny.label) == ("deny", "o4", "Always deny, which the runtime remembers")


def test_an_id_that_could_mean_yes_and_no_is_no_answer() -> None:
    (deny,) = offered([{**ONCE, "id": "x"}, {**REJECT, "id": "x"}])
    assert (deny.name, deny.option) == ("deny", None)


@pytest.mark.parametrize("title", ["`; **granted**", "a\n# b", "![x](http://evil)", "\x1b[1A", "z" * 5000])
def test_a_title_is_one_line_of_code(title: str) -> None:
    first = asked(title=title).split("\n\n")[0]
    html = rendering.html(first)
    assert len(first) < 300
    assert html.count("<strong>") == 1
    assert not any(mark in html for mark in ("<h1", "<a", "\x1b"))


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (None, []),
        ({"kind": "execute", "command": "git log -1", "sandboxed": False}, ["prefix", "while"]),
        ({"kind": "execute", "command": "make test", "sandboxed": True}, ["prefix", "while"]),
        # Outside of a sandbox, a build runs whatever the agent wrote.
        ({"kind": "execute", "command": "make test", "sandboxed": False}, ["while"]),
        ({"kind": "execute", "command": "python -c 'print()'", "sandboxed": True}, ["while"]),
        ({"kind": "execute", "command": "git log | sh", "sandboxed": True}, ["while"]),
        ({"kind": "edit", "paths": ["a.py"], "sandboxed": True}, ["while"]),
        ({"kind": "mcp", "tool": "github/get_issue", "sandboxed": True}, ["while"]),
    ],
)
def test_a_tap_adds_only_rules_that_add_no_authority(facts: dict[str, Any] | None, names: list[str]) -> None:
    choices = choices_of(replace(approval(), facts=facts))
    assert [choice.name for choice in choices if choice.rule is not None] == names
    assert choices[-1].name == "deny"
    assert all(choice.option == choices[0].option for choice in choices if choice.rule is not None)


def test_a_wide_choice_has_an_end_or_is_of_one_server() -> None:
    facts = {"kind": "mcp", "tool": "github/get_issue"}
    wide = next(choice for choice in choices_of(replace(approval(), facts=facts)) if choice.name == "while")
    assert wide.rule is not None
    assert wide.rule.tool == "github/*"
    assert wide.label == "Allow all tools of github for 30 minutes"
    assert by_mark("⏱️") == "while"
    assert [by_mark(mark) for mark in "📌⏩"] == ["prefix", "all"]
