# ruff: noqa: RUF001
"""What people type, on keyboards and on phones, becomes arguments or one sentence that says what is wrong."""

import contextlib
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.auth.permission import OPERATOR
from bot.commands import parser
from bot.commands.argument_types import AgentName, Duration, Rest
from bot.commands.context import Context
from bot.commands.registry import Command, CommandTable, Reply
from bot.commands.services import CommandServices
from bot.commands.syntax import written
from bot.text.errors import UsageError


def _table() -> CommandTable:
    table = CommandTable()

    @table.command("launch", permission=OPERATOR, help_section="fleet")
    async def launch(
        ctx: Context[CommandServices],
        name: AgentName,
        runtime: str | None = None,
        *,
        task: str | None = None,
        budget: int | None = None,
        share: float | None = None,
        by: Literal["agent", "role"] = "agent",
        for_: Duration | None = None,
        now: bool = False,
    ) -> Reply:
        """X."""
        return Reply("")

    @table.command("send", permission=OPERATOR, help_section="talking")
    async def send(
        ctx: Context[CommandServices], name: AgentName, text: Rest, *, now: bool = False, lane: str | None = None
    ) -> Reply:
        """X."""
        return Reply("")

    return table


TABLE = _table()


def _command(name: str) -> Command:
    command = TABLE.get(name)
    assert command is not None
    return command


LAUNCH, SEND = _command("launch"), _command("send")


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("coder0", {"name": "coder0"}),
        ("coder0 claude", {"name": "coder0", "runtime": "claude"}),
        ('coder0 --task "fix the parser"', {"name": "coder0", "task": "fix the parser"}),
        ("--task='fix \"it\"' coder0", {"name": "coder0", "task": 'fix "it"'}),
        ('coder0 --task="two\nlines"', {"name": "coder0", "task": "two\nlines"}),
        (r'coder0 --task "a \"b\" \\ \n"', {"name": "coder0", "task": 'a "b" \\ \\n'}),
        (r"coder0 --task fix\ it", {"name": "coder0", "task": "fix it"}),
        ("coder0 --budget 5 --share .5", {"name": "coder0", "budget": 5, "share": 0.5}),
        ("coder0 --budget -5", {"name": "coder0", "budget": -5}),
        ("coder0 --now", {"name": "coder0", "now": True}),
        ("coder0 --no-now", {"name": "coder0", "now": False}),
        ("coder0 --now=off", {"name": "coder0", "now": False}),
        ("coder0 --for 2h --BY Role", {"name": "coder0", "for": "2h", "by": "Role"}),
        ("-- coder0 --now", {"name": "coder0", "runtime": "--now"}),
        ('coder0 "--now"', {"name": "coder0", "runtime": "--now"}),
        # As phones write it.
        ("coder0 —task “fix the parser”", {"name": "coder0", "task": "fix the parser"}),
        ("coder0 –now", {"name": "coder0", "now": True}),
        ("coder0 —task=„fix it“", {"name": "coder0", "task": "fix it"}),
        ("coder0 —task ‘don’t do it’", {"name": "coder0", "task": "don’t do it"}),
        ('coder0 —task “it’s fine"', {"name": "coder0", "task": "it’s fine"}),
    ],
)
def test_a_line_is_understood(line: str, arguments: dict[str, object]) -> None:
    assert parser.parse(LAUNCH, line) == arguments


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("coder0 multi\nline  text", {"name": "coder0", "text": "multi\nline  text"}),
        ("coder0\nhello", {"name": "coder0", "text": "hello"}),
        ("coder0 say \"it's", {"name": "coder0", "text": "say \"it's"}),
        ("coder0 use --now here", {"name": "coder0", "text": "use --now here"}),
        ("coder0 --now go", {"name": "coder0", "text": "go", "now": True}),
        ("coder0 --lane fast go --now", {"name": "coder0", "text": "go --now", "lane": "fast"}),
        ("coder0 -- --now", {"name": "coder0", "text": "--now"}),
        ("coder0 - one\n- two", {"name": "coder0", "text": "- one\n- two"}),
        ("coder0 —well, no", {"name": "coder0", "text": "—well, no"}),
        ("coder0 —now go", {"name": "coder0", "text": "go", "now": True}),
        (r"coder0 C:\dir \n", {"name": "coder0", "text": r"C:\dir \n"}),
    ],
)
def test_the_rest_of_the_line_is_kept_word_for_word(line: str, arguments: dict[str, object]) -> None:
    assert parser.parse(SEND, line) == arguments


@pytest.mark.parametrize(
    ("command", "line", "sentence"),
    [
        (LAUNCH, "", "NAME is missing."),
        (LAUNCH, "a b c d", 'Unexpected argument: "c d". Put quotes around a text of several words.'),
        (LAUNCH, "a --taks x", '"--taks" is no option of launch; did you mean --task?'),
        (LAUNCH, "a --zzz", '"--zzz" is no option of launch; it takes --task, --budget,'),
        (LAUNCH, "a --task", "--task needs a value: some text."),
        (LAUNCH, "a --task --now", "--task needs a value: some text. If the value begins with dashes"),
        (LAUNCH, "a --task=", '--task: expected some text, not ""'),
        (LAUNCH, "a --now --now", "--now is given twice."),
        (LAUNCH, "a --now=maybe", '--now is on or off; it takes no value such as "maybe".'),
        (LAUNCH, "a --budget lots", '--budget: expected a whole number, not "lots".'),
        (LAUNCH, "a --by day", '--by: expected agent, role, not "day".'),
        (LAUNCH, "a -t x", '"-t" is no option'),
        (LAUNCH, "a --task 'never", 'The quote \' before "never" is never closed.'),
        (LAUNCH, "a --task “never", 'The quote “ before "never" is never closed.'),
        (LAUNCH, "a --task-x!y z", '"--task-x" is no option of launch'),
        (LAUNCH, "a --task:x", '"--task:x" is no option'),
        (LAUNCH, "A/B", "NAME: expected an agent's name"),
        (SEND, "coder0", "TEXT is missing."),
        (SEND, "coder0 --later x", '"--later" is no option of send'),
        (SEND, "coder0 --", "TEXT is missing."),
    ],
)
def test_a_wrong_line_is_refused_with_a_sentence(command: Command, line: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parser.parse(command, line)
    assert str(refused.value).startswith(sentence)


def test_the_usage_line_can_follow_the_sentence() -> None:
    said = written(parser.with_usage(UsageError("TEXT is missing."), SEND), "!")
    assert said == "TEXT is missing.\n\nUsage: `!send NAME [--now] [--lane TEXT] TEXT`"


_texts = st.text(min_size=1, max_size=30).filter(lambda text: text.strip() != "")
_names = st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True)


@given(
    st.fixed_dictionaries(
        {"name": _names},
        optional={
            "runtime": _texts,
            "task": _texts,
            "budget": st.integers(-(10**17), 10**17),
            "by": st.sampled_from(["agent", "role"]),
            "now": st.booleans(),
        },
    )
)
def test_what_is_written_as_a_line_is_read_back(arguments: dict[str, parser.Json]) -> None:
    line = parser.line_of(LAUNCH, arguments)
    found = TABLE.match(line)
    assert found is not None
    assert parser.parse(found.command, found.rest) == arguments


@given(name=_names, text=_texts.map(str.strip).filter(bool), now=st.booleans())
def test_free_text_is_read_back(name: str, text: str, now: bool) -> None:
    arguments: dict[str, parser.Json] = {"name": name, "text": text, "now": now}
    found = TABLE.match(parser.line_of(SEND, arguments))
    assert found is not None
    assert parser.parse(found.command, found.rest) == arguments


@given(
    st.sampled_from([LAUNCH, SEND]), st.text(max_size=200) | st.text(alphabet="-—–'\"“”‘’„\\= \na--now", max_size=60)
)
def test_garbage_is_read_or_refused(command: Command, line: str) -> None:
    with contextlib.suppress(UsageError):
        command.bind(parser.parse(command, line))


def test_a_very_long_line_is_refused_shortly() -> None:
    with pytest.raises(UsageError) as refused:
        parser.parse(LAUNCH, "a b " + "x" * 100_000)
    assert len(str(refused.value)) < 300
