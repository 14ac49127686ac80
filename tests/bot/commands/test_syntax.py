"""A command in an answer is written as whoever reads the answer has to type it."""

import ast
import re
from pathlib import Path

import pytest

import bot
from bot.auth.permission import ADMIN, VIEWER
from bot.auth.permissions import Operators
from bot.commands import help as command_help
from bot.commands import sections
from bot.commands.context import Context
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.runs import RunRequest
from bot.commands.services import CommandServices
from bot.commands.syntax import command_line, in_docstring, written
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from bot.text import markdown
from bot.text.errors import UsageError, UserError
from database.engine.store import Store
from fleet.errors import RosterError
from tests.bot.orchestrator import VIEWER as VERA
from tests.bot.orchestrator import house


@pytest.mark.parametrize(
    ("prefix", "seen"), [("!", "`!launch NAME`"), ("muster ", "`muster launch NAME`"), ("", "`launch NAME`")]
)
def test_a_command_line_begins_as_commands_do_where_it_is_read(prefix: str, seen: str) -> None:
    text = f"Say {command_line('launch NAME')}, or {command_line('help')}. `launch` here is a word."
    assert written(text, prefix) == f"Say {seen}, or `{prefix}help`. `launch` here is a word."


def test_backticks_in_a_command_line_do_not_end_it() -> None:
    assert written(command_line("send coder0 `x`"), "!") == "`` !send coder0 `x` ``"


@pytest.mark.parametrize("quote", [markdown.code, markdown.code_block, markdown.one_line, markdown.shown])
def test_quoted_words_do_not_pass_for_a_command_line(quote: object) -> None:
    assert callable(quote)
    quoted = quote(command_line("kill coder0"))
    assert written(quoted, "!") == quoted
    assert "!" not in quoted


def test_a_docstring_names_commands_and_other_things() -> None:
    table = sections.load()
    text = in_docstring("As `dead-letters` shows it, until `grant revoke`, in `muster.yaml`.", table)
    assert written(text, "!") == "As `!dead-letters` shows it, until `!grant revoke`, in `muster.yaml`."


async def test_every_door_answers_in_its_own_words(tmp_path: Path) -> None:
    table = CommandTable()

    @table.command("ps", permission=VIEWER, help_section="fleet")
    async def ps(ctx: Context[CommandServices], how: str) -> Reply:
        """Look, like `ps fine` does."""
        match how:
            case "fine":
                return Reply(f"No agent runs. {command_line('launch NAME')} starts one.")
            case "usage":
                raise UsageError("HOW is wrong.")
            case "help":
                return Reply(command_help.explanation(table.get("ps") or pytest.fail("gone"), table))
            case "below":
                raise RosterError("Say `muster ps fine`, `ps` or `muster login claude`.")
            case _:
                raise UserError(f"Nothing; {command_line('ps --all')} shows more.")

    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    clock = 1_000_000.0
    services = ReportServices(
        clock=lambda: clock, store=store, table=table, operators=Operators(store, {}), events=EventHub()
    )
    executor = Executor(services)

    async def answer(door: str, name: str, **arguments: str) -> str:
        request = RunRequest(
            id=f"{door}{name}{arguments}", name=name, arguments=arguments, identity="x:y", permission=ADMIN, door=door
        )
        return (await executor.run(request)).text

    for door, prefix in (("chat", "!"), ("cli", "muster "), ("gateway", "")):
        assert await answer(door, "ps", how="fine") == f"No agent runs. `{prefix}launch NAME` starts one."
        assert await answer(door, "ps", how="usage") == f"HOW is wrong.\n\nUsage: `{prefix}ps HOW`"
        assert await answer(door, "ps", how="wrong") == f"Nothing; `{prefix}ps --all` shows more."
        assert await answer(door, "ps", how="below") == f"Say `{prefix}ps fine`, `ps` or `muster login claude`."
        assert await answer(door, "ps") == f"HOW is missing.\n\nUsage: `{prefix}ps HOW`"
        assert await answer(door, "pss") == f'There is no command "pss". `{prefix}help` lists them.'
        assert f"Look, like `{prefix}ps fine` does." in await answer(door, "ps", how="help")
    await store.close()


async def test_a_room_with_another_prefix_reads_it_everywhere(tmp_path: Path) -> None:
    async with house(tmp_path, settings='command_prefix: "."\n') as home, home.open():
        assert "`.launch NAME`" in await home.ask(".ps")
        assert "`.launch NAME --role orchestrator`" in await home.ask("is anybody here?")
        assert "`.ps`" in await home.ask("is anybody here?", sender=VERA)
        assert "`.operator set`" in await home.ask(".launch coder0", sender=VERA)
        assert "`.dead-letters`" in await home.ask(".retry nothing")
        assert "`.dead-letters`" in await home.ask(".help retry")
        assert "`.launch`" in await home.ask(".lunch")
        assert "Usage: `.stop" in await home.ask(".stop")
        await home.ask(".launch coder0 --runtime sim --sandbox none")
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        home.say("[[run: echo yes]]", thread)
        question = await home.heard(thread, "asks for permission")
        assert re.search(r"`\.approve (\w+)`.*`\.approve \1 --always`.*`\.deny \1`", question, re.S)
        assert "`.kill coder0` cannot be undone" in await home.ask(".kill coder0")
        assert "`.kill` was taken back" in await home.ask(".decline")
        everything = "\n".join(said.text for said in home.chat.said)
        assert "`!" not in everything
        assert "\ufdd0" not in everything
        assert "U+FDD0" not in everything


def test_no_sentence_spells_a_command_for_one_door_alone() -> None:
    table = sections.load()
    found = []
    for path in sorted(Path(bot.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                spans = re.findall(r"`!?((?!kill -9)[a-z][^`]*)", node.value)
                found += [f"{path.name}:{node.lineno}: {span}" for span in spans if table.match(span) is not None]
    assert found == []
