"""`muster` in a shell, against a real gateway: what it prints, where, and with which exit status."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pexpect
import pytest

from bot.api_client import Client
from bot.auth.permission import OPERATOR, VIEWER
from bot.auth.permissions import Operators
from bot.commands import sections
from bot.commands.argument_types import AgentName, Rest
from bot.commands.context import Context
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.interfaces.api.server import Gateway
from bot.interfaces.cli import main as cli
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from bot.text.errors import UserError
from database.engine.store import Store

WAYS_OF_COMPLETION = {"bash": "complete", "zsh": "compdef", "fish": "complete"}


@dataclass
class Shell:
    """A shell on a machine where an orchestrator with a few commands runs."""

    table: CommandTable
    gateway: Gateway
    capture: pytest.CaptureFixture[str]
    ran: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, *words: str, client: Client | None = None) -> tuple[int, str, str]:
        made = client or Client(self.gateway.path, retry_for=0)
        self.capture.readouterr()
        status = await asyncio.to_thread(cli.run, self.table, list(words), client=lambda: made)
        return status, *self.capture.readouterr()


@pytest.fixture
async def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")

    async def complete(source: str) -> list[str]:
        return {"agents": ["coder0", "writer"]}.get(source, [])

    services = ReportServices(
        clock=lambda: 1_000_000.0,
        store=store,
        table=CommandTable(),
        operators=Operators(store, {}),
        events=EventHub(),
        complete=complete,
    )
    executor = Executor(services)
    gateway = Gateway(services, executor, tmp_path / "gateway.sock")
    shell = Shell(services.table, gateway, capsys)
    declare(services.table, shell)
    await gateway.start()
    yield shell
    await gateway.stop()
    await executor.stop()
    await store.close()


def declare(table: CommandTable, shell: Shell | None) -> None:
    @table.command("ps", permission=VIEWER, help_section="fleet", effects=False)
    async def ps(ctx: Context[CommandServices], *, all: bool = False) -> Reply:
        """The fleet."""
        return Reply("| name |\n| --- |\n| coder\x1b[31m0 |", [{"name": "coder\x1b[31m0", "all": all}])

    @table.command("send", permission=OPERATOR, help_section="talking")
    async def send(ctx: Context[CommandServices], name: AgentName, text: Rest, *, lane: int = 0) -> Reply:
        """Say something.

        Args:
            text: what to say, or - for standard input.
        """
        assert shell is not None
        shell.ran.append(f"{ctx.door} {name} {lane} {text}")
        return Reply("told", {"id": "m1", "state": "queued"})

    @table.command("grants", permission=VIEWER, help_section="approvals")
    async def grants(ctx: Context[CommandServices]) -> Reply:
        """What was allowed."""
        return Reply("none", [])

    @table.command("grant revoke", permission=OPERATOR, help_section="approvals", confirm=True)
    async def grant_revoke(ctx: Context[CommandServices], id: str) -> Reply:
        """Take back what was allowed."""
        return Reply(f"revoked {id}")

    @table.command("help", permission=VIEWER, help_section="admin")
    async def help_(ctx: Context[CommandServices], name: Rest | None = None) -> Reply:
        """Help."""
        return Reply("help from there")

    @table.command("refuse", permission=VIEWER, help_section="x")
    async def refuse(ctx: Context[CommandServices]) -> Reply:
        """Refuse."""
        raise UserError("There is no such agent.", code="agent.unknown")

    @table.command("half", permission=VIEWER, help_section="x")
    async def half(ctx: Context[CommandServices]) -> Reply:
        """Fail, with something to show for it."""
        return Reply("Only half of it.", {"half": True}, ok=False)

    @table.command("walk", permission=VIEWER, help_section="x")
    async def walk(ctx: Context[CommandServices]) -> Reply:
        """Go on step by step."""
        await ctx.progress("half\x1b[2J")
        assert shell is not None
        await shell.go.wait()
        return Reply("there")

    @table.command("wait", permission=VIEWER, help_section="x")
    async def wait(ctx: Context[CommandServices]) -> Reply:
        """Wait."""
        assert shell is not None
        shell.ran.append("wait")
        shell.reached.set()
        await shell.go.wait()
        return Reply("waited")


async def test_an_answer_is_printed_and_cannot_act_on_a_terminal(shell: Shell) -> None:
    assert await shell("ps") == (0, "name\ncoder␛[31m0\n", "")
    status, out, _ = await shell("ps", "--json", "--all")
    assert (status, json.loads(out)) == (0, [{"name": "coder\x1b[31m0", "all": True}])
    assert "\x1b" not in out


async def test_arguments_and_options_reach_the_command(shell: Shell) -> None:
    assert (await shell("send", "Coder0", "--lane", "3", "two", "words"))[0] == 0
    assert (await shell("send", "coder0", "--", "--now\nor later", "--json"))[0] == 0
    status, out, _ = await shell("send", "coder0", "hi", "--json")
    assert (status, json.loads(out)) == (0, {"id": "m1", "state": "queued"})
    assert shell.ran == ["cli coder0 3 two words", "cli coder0 0 --now\nor later --json", "cli coder0 0 hi"]


@pytest.mark.parametrize("amount", ["-5M", "-5%", "-5h", "-$2", "-.5"])
async def test_an_amount_below_zero_is_for_the_command_to_judge(shell: Shell, amount: str) -> None:
    assert await shell("grant", "revoke", amount, "--yes") == (0, f"revoked {amount}\n", "")
    status, _, error = await shell("grant", "revoke", amount, "--yse")
    assert (status, "--yse" in error) == (2, True), "what looks like an option is one still"


async def test_a_text_can_come_from_standard_input(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("from\na file")
    with (tmp_path / "text").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        await shell("send", "coder0", "-")
    assert shell.ran == ["cli coder0 0 from\na file"]


async def test_what_is_refused_or_failed_goes_to_standard_error(shell: Shell) -> None:
    assert await shell("refuse") == (1, "", "There is no such agent.\n")
    assert await shell("half") == (1, "", "Only half of it.\n")
    status, out, error = await shell("half", "--json")
    assert (status, json.loads(out), error) == (1, {"half": True}, "Only half of it.\n")


async def test_programs_are_told_as_json_why_something_was_not_done(shell: Shell, tmp_path: Path) -> None:
    away = Client(tmp_path / "nowhere.sock", retry_for=0)
    for words, client, expected in (
        (["refuse"], None, (1, "refused", None, "agent.unknown", "There is no such agent.")),
        (["send", "coder0"], None, (2, "refused", "usage", "command.usage", "Missing argument 'TEXT'")),
        (["send", "../x", "hi"], None, (2, "refused", "usage", "command.usage", "NAME: expected an agent's name")),
        (["lanuch"], None, (2, "refused", "usage", "command.usage", 'There is no command "lanuch".')),
        (["ps"], away, (3, "refused", "not_running", "muster.not_running", "Muster")),
    ):
        status, out, error = await shell(*words, "--json", client=client)
        told = json.loads(out)
        assert (status, told["state"], told["reason"], told["code"]) == expected[:4], words
        assert expected[4] in told["error"]
        assert expected[4] in error, "people read it where they always do"
    status, out, _ = await shell("send", "../x", "--", "--json")
    assert (status, out) == (2, ""), "what is text is no option"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["send", "coder0"], "Missing argument 'TEXT'"),
        (["send", "../x", "hi"], "NAME: expected an agent's name"),
        (["send", "coder0", "hi", "--lane", "many"], '--lane: expected a whole number, not "many".'),
        (["send", "coder0", "hi", "--nale"], "No such option"),
        (["ps", "x"], 'Unexpected argument: "x".'),
        (
            ["grant", "revoke", "g1", "*", "1-5"],
            'Unexpected argument: "* 1-5". Put quotes around a text of several words.',
        ),
        (["lanuch"], 'There is no command "lanuch".'),
        (["sedn", "x"], "Did you mean `muster send`?"),
        (["grant", "revok", "x"], "Did you mean `muster grant revoke`?"),
        (["--nope"], "No such option"),
        (["up", "--detach", "--demo"], "--demo runs in the foreground"),
    ],
)
async def test_wrong_usage(shell: Shell, words: list[str], sentence: str) -> None:
    status, out, error = await shell(*words)
    assert (status, out) == (2, "")
    assert sentence in error


def test_a_wrong_second_word_gets_what_was_perhaps_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(sections.load(), ["roster", "aply"]) == 2
    assert 'There is no command "roster aply". Did you mean `muster roster apply`?' in capsys.readouterr().err


async def test_the_orchestrator_is_not_running(shell: Shell, tmp_path: Path) -> None:
    nobody = Client(tmp_path / "nobody.sock")
    status, out, error = await shell("ps", client=nobody)
    assert (status, out) == (3, "")
    assert "`muster up`" in error
    await shell.gateway.stop()
    assert (await shell("ps"))[0] == 3
    status, out, _ = await shell("help", client=nobody)
    assert (status, "Usage: muster" in out) == (0, True), "help needs nobody"
    assert (await shell("help", "ps", client=nobody))[0] == 0


async def test_a_socket_that_nobody_listens_on_any_more(shell: Shell) -> None:
    path = shell.gateway.path
    path.rename(path.with_suffix(".kept"))
    subprocess.run(
        [sys.executable, "-c", f"import socket; socket.socket(socket.AF_UNIX).bind({str(path)!r})"], check=True
    )
    assert (await shell("ps"))[0] == 3


async def test_a_lost_connection_is_made_again_and_the_command_runs_once(shell: Shell) -> None:
    async with asyncio.timeout(30):
        asking = asyncio.create_task(shell("wait", client=Client(shell.gateway.path)))
        await shell.reached.wait()
        await shell.gateway.stop()
        await shell.gateway.start()
        shell.go.set()
        status, out, error = await asking
    assert (status, out, error) == (0, "waited\n", "")
    assert shell.ran == ["wait"]


@pytest.mark.slow
async def test_a_connection_that_stays_lost(shell: Shell) -> None:
    async with asyncio.timeout(30):
        asking = asyncio.create_task(shell("wait", client=Client(shell.gateway.path, retry_for=0.5)))
        await shell.reached.wait()
        await shell.gateway.stop()
        status, _, error = await asking
    assert (status, "went away before it answered" in error) == (1, True)


async def test_what_cannot_be_undone_wants_a_yes(shell: Shell) -> None:
    status, out, error = await shell("grant", "revoke", "g1")
    assert (status, out) == (1, "")
    assert "Say --yes if you mean it; nothing was done." in error
    assert await shell("grant", "revoke", "g1", "--yes") == (0, "revoked g1\n", "")


@contextlib.contextmanager
def _at_a_terminal(words: str, path: Path) -> Iterator[Any]:
    code = (
        "import signal, sys; from pathlib import Path\n"
        # Whoever runs the tests in the background may have had it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from bot.commands.registry import CommandTable\n"
        "from bot.interfaces.cli import main as cli; from bot.api_client import Client\n"
        "from tests.bot.interfaces.cli.test_main import declare\n"
        "table = CommandTable(); declare(table, None)\n"
        f"sys.exit(cli.run(table, {words.split()!r}, client=lambda: Client(Path({str(path)!r}))))"
    )
    child = pexpect.spawn(
        sys.executable, ["-c", code], timeout=20, encoding="utf-8", env=os.environ | {"TERM": "xterm"}
    )
    try:
        yield child
    finally:
        child.close(force=True)


async def test_at_a_terminal_it_asks(shell: Shell) -> None:
    def answer(word: str) -> tuple[str, int]:
        with _at_a_terminal("grant revoke g1", shell.gateway.path) as child:
            child.expect("Really grant revoke g1")
            child.sendline(word)
            child.expect(pexpect.EOF)
            said: str = child.before
        return said, child.exitstatus

    said, status = await asyncio.to_thread(answer, "n")
    assert status == 1
    assert "revoked" not in said
    said, status = await asyncio.to_thread(answer, "y")
    assert status == 0
    assert "revoked g1" in said


async def test_at_a_terminal_it_shows_how_far_a_command_is_and_elsewhere_only_the_answer(shell: Shell) -> None:
    def look() -> str:
        with _at_a_terminal("walk", shell.gateway.path) as child:
            child.expect("half␛")
            loop.call_soon_threadsafe(shell.go.set)
            child.expect(pexpect.EOF)
            said: str = child.before
            return said

    loop = asyncio.get_running_loop()
    said = await asyncio.to_thread(look)
    assert said.index("\r\x1b[K") < said.index("there")
    assert await shell("walk") == (0, "there\n", "")


async def test_at_a_terminal_tables_are_drawn_and_agents_draw_nothing(shell: Shell) -> None:
    def look() -> str:
        with _at_a_terminal("ps", shell.gateway.path) as child:
            child.expect(pexpect.EOF)
            said: str = child.before
            return said

    said = await asyncio.to_thread(look)
    assert "| --- |" not in said
    assert "coder␛[31m0" in said


async def test_help_lists_everything_and_explains_each(shell: Shell) -> None:
    status, out, _ = await shell("--help")
    assert status == 0
    for name in ("up", "down", "chat", "init", "config check", "doctor", "login", "ps", "send", "grant revoke"):
        assert f"\n  {name} " in out
    status, out, _ = await shell("send", "--help")
    assert (status, "what to say, or - for standard input" in out) == (0, True)
    status, out, _ = await shell("grant", "--help")
    assert (status, "Take back what was allowed" in out) == (0, True)
    status, out, _ = await shell("egress", "--help")
    assert (status, "Further commands: egress status," in out) == (0, True)
    status, out, _ = await shell("config", "--help")
    assert (status, "editors." in out, "for..." in out) == (0, True, False)
    assert (await shell())[0] == 0


async def test_help_begins_with_what_to_start_with(shell: Shell) -> None:
    _, out, _ = await shell("--help")
    begins = out.index("Start with:")
    assert begins < out.index("Examples:") < out.index("Options:") < out.index("In the shell:")
    assert [line.split()[1] for line in out[begins:].splitlines()[1:] if line.startswith("  muster ")][:3] == [
        "up", "init", "up",
    ]  # fmt: skip
    assert (await shell("help"))[1] == out


def test_each_command_is_in_the_help_once(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(sections.load(), ["--help"])
    listed = re.findall(r"^  ([a-z][a-z-]*(?: [a-z-]+)?)  +[A-Z]", capsys.readouterr().out, re.MULTILINE)
    assert len(listed) > 60
    assert sorted(listed) == sorted(set(listed))


async def test_help_explains_a_command_without_an_orchestrator(shell: Shell, tmp_path: Path) -> None:
    away = Client(tmp_path / "nowhere.sock", retry_for=0)
    status, out, _ = await shell("help", "send", client=away)
    assert (status, "muster send" in out, "what to say, or - for standard input" in out) == (0, True, True)
    assert "Take back what was allowed" in (await shell("help", "grant", "revoke"))[1]
    assert "Take back what was allowed" in (await shell("help", "grant"))[1]
    assert "restores a backup" not in (await shell("help", "backup"))[1]
    assert "muster backup restore" in (await shell("help", "backup", "restore"))[1]
    status, out, error = await shell("help", "sned")
    assert (status, out, "Did you mean `muster send`?" in error) == (2, "", True)
    status, _, error = await shell("help", "ps", "nothing")
    assert (status, 'no command "ps nothing"' in error) == (2, True)
    status, out, _ = await shell("help", "send", "--json")
    assert [each["name"] for each in json.loads(out)] == ["send"]


def test_the_manual_page_is_one_that_man_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(sections.load(), ["help", "--man"]) == 0
    page = capsys.readouterr().out
    for words in (".SH NAME", "muster task add", "muster backup restore", ".SH EXIT STATUS"):
        assert words.replace("-", "\\-") in page
    assert all(ord(sign) < 0x2000 for sign in page)
    man = shutil.which("man")
    if man is None:
        pytest.skip("there is no man here")
    done = subprocess.run([man, "--warnings", "-l", "-"], input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "muster backup restore" in done.stdout


async def test_quiet_leaves_out_what_was_done_and_shows_what_was_asked(shell: Shell) -> None:
    assert await shell("-q", "send", "coder0", "hi") == (0, "", "")
    assert shell.ran == ["cli coder0 0 hi"]
    assert (await shell("-q", "ps"))[1] == "name\ncoder␛[31m0\n"
    assert json.loads((await shell("-q", "send", "coder0", "hi", "--json"))[1])["id"] == "m1"
    assert await shell("-q", "refuse") == (1, "", "There is no such agent.\n")


@pytest.mark.parametrize("option", ["-q", "--quiet"])
async def test_quiet_is_accepted_after_the_command_too(shell: Shell, option: str) -> None:
    assert await shell("send", "coder0", "hi", option) == (0, "", "")
    assert await shell("send", option, "coder0", "hi") == (0, "", "")
    assert shell.ran == ["cli coder0 0 hi"] * 2
    assert (await shell("ps", option))[1] == "name\ncoder␛[31m0\n"
    assert json.loads((await shell("send", "coder0", "hi", option, "--json"))[1])["id"] == "m1"
    assert await shell("refuse", option) == (1, "", "There is no such agent.\n")
    await shell("send", "coder0", "--", "grep", option)
    assert shell.ran[-1] == f"cli coder0 0 grep {option}"
    assert (await shell("send", "coder0", "hi"))[1], "it holds for its own command only"
    assert option not in (await shell("ps", "--help"))[1]


async def test_version(shell: Shell) -> None:
    status, out, _ = await shell("--version")
    assert status == 0
    assert out.startswith("muster ")


@pytest.mark.parametrize("name", WAYS_OF_COMPLETION)
async def test_completion_scripts(shell: Shell, name: str) -> None:
    status, out, _ = await shell("completion", name)
    assert status == 0
    assert WAYS_OF_COMPLETION[name] in out
    assert "_MUSTER_COMPLETE" in out


@pytest.mark.parametrize(
    ("words", "last", "found"),
    [
        ([], "gr", ["grants", "grant"]),
        (["grant"], "", ["revoke"]),
        (["config"], "", ["check", "schema"]),
        (["send"], "", ["coder0", "writer"]),
        (["send"], "wr", ["writer"]),
        (["ps"], "--a", ["--all"]),
        (["help"], "gra", ["grants", "grant"]),
        (["help", "grant"], "", ["revoke"]),
    ],
)
async def test_words_that_a_shell_completes(shell: Shell, words: list[str], last: str, found: list[str]) -> None:
    from click.shell_completion import ShellComplete

    program = cli.MusterProgram(shell.table, lambda: Client(shell.gateway.path))
    complete = ShellComplete(program, {}, "muster", "X").get_completions
    items = await asyncio.to_thread(complete, words, last)
    assert [item.value for item in items] == found


async def test_completion_without_an_orchestrator_is_empty(shell: Shell, tmp_path: Path) -> None:
    from click.shell_completion import ShellComplete

    program = cli.MusterProgram(shell.table, lambda: Client(tmp_path / "nobody.sock"))
    assert ShellComplete(program, {}, "muster", "X").get_completions(["send"], "") == []


async def test_the_reader_of_our_output_may_go(shell: Shell) -> None:
    code = f"{sys.executable} -m bot --help"
    done = await asyncio.create_subprocess_shell(
        f"set -o pipefail; {code} | true", executable="/bin/bash", stderr=subprocess.PIPE
    )
    _, error = await done.communicate()
    assert b"Traceback" not in error


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bot.interfaces.cli import main as cli\n"
        "cli.run(cli.sections.load(), ['--help'])\n"
        "heavy = {'sqlalchemy', 'aiohttp', 'pydantic', 'structlog', 'rich', 'yaml', 'nio', 'acp', 'asyncio', 'http'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


async def test_a_command_imports_nothing_that_it_does_not_use(shell: Shell, tmp_path: Path) -> None:
    """Each of these takes 5 to 25 ms of CPU, at every command."""
    code = (
        "import os, sys; from pathlib import Path; from bot.interfaces.cli import main as cli\n"
        "from bot.api_client import Client\n"
        f"cli.run(cli.sections.load(), ['ps'], client=lambda: Client(Path({str(tmp_path / 'gateway.sock')!r})))\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    shown, loaded = await run.communicate()
    assert shown.decode() == "name\ncoder␛[31m0\n"
    heavy = {"asyncio", "email", "http", "http.client", "rich", "secrets", "ssl", "sqlalchemy", "structlog", "yaml"}
    ours = {"connectors.contract.messages", "core.redaction", *(f"bot.interfaces.cli.{name}_commands" for name in
            ("egress", "maintenance", "process"))}  # fmt: skip
    assert (heavy | ours) & set(loaded.decode().split()) == set()


async def test_an_answer_that_is_cut_short_is_asked_for_again(tmp_path: Path) -> None:
    """The gateway dies while it answers, and is back. The idempotency key stays, so the command runs once."""
    asked: list[bytes] = []
    answer = b'{"state": "done", "text": "there", "data": null}'
    answers = [b"", b"HTTP/1.1 200 OK\r\n\r\n" + answer[:-9], b"nonsense\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + answer]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answers[len(asked) - 1])
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "gateway.sock"):
        client = Client(tmp_path / "gateway.sock", sleep=lambda seconds: None)
        found = await asyncio.to_thread(client.run, "ps", {})
    assert (found.status, found.body["text"]) == (200, "there")
    assert len(asked) == 4
    assert len(set(asked)) == 1


def test_interrupting_is_no_traceback(tmp_path: Path) -> None:
    """A command that hangs is left with Ctrl-C; it goes on in Muster."""
    import socket

    path = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        with _at_a_terminal("ps", path) as child:
            deaf.settimeout(20)
            connection, _ = deaf.accept()
            with connection:
                connection.recv(10)
                child.kill(signal.SIGINT)
                child.expect("Interrupted")
                child.expect(pexpect.EOF)
    assert child.exitstatus == 1


def test_a_command_of_three_words_is_found_and_its_first_words_list_it() -> None:
    program = cli.MusterProgram(sections.load(), lambda: pytest.fail("nothing is asked"))
    ctx = click.Context(program)
    name, _, rest = program.resolve_command(ctx, ["approvals", "rule", "add", "allow", "git status"])
    assert (name, rest) == ("approvals rule add", ["allow", "git status"])
    assert program.resolve_command(ctx, ["approvals"])[0] == "approvals"
    group = program.resolve_command(ctx, ["approvals", "rule"])[1]
    assert isinstance(group, click.Group)
    assert group.list_commands(ctx) == ["add", "list", "remove", "test"]
    with pytest.raises(click.UsageError, match='no command "approvals rule ad"'):
        program.resolve_command(ctx, ["approvals", "rule", "ad"])
