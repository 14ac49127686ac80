"""What an operator sees of agents that are broken or mean it badly."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.contract.messages import Emphasis, Message, React
from connectors.memory import Said
from database.queries.operations import audit_log as audit
from fleet.journal.events import Opened
from fleet.sandbox import selection
from fleet.supervision import host_lifecycle, host_lock, process_sweep
from fleet.supervision.restart_policy import RestartLimits
from tests.bot.fake_agents import launch, recorded, roster, scripted, steps
from tests.bot.orchestrator import OPERATOR, ROOM, House, house

TOKEN = "ghp_" + "a1B2c3D4e5" * 4


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, roster=roster(tmp_path, "imp", "elf")) as made, made.open():
        yield made


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[House]:
    fleet = scripted(tmp_path, garbled="garbage", dead="dies", silent="hangs", ancient="old", login="login")
    settings = "agents:\n  initialize_timeout: 2s\n"
    async with house(tmp_path, settings=settings, roster=fleet) as made, made.open():
        yield made


def messages(home: House) -> list[Message]:
    """All that ever stood in the chat, with all its changes."""
    said = [getattr(each.content, "message", each.content) for each in home.chat.said]
    changes = [change.message for each in home.chat.said for change in each.changes]
    return [message for message in (*said, *changes) if isinstance(message, Message)]


def spoken(home: House) -> list[str]:
    return [*(message.text for message in messages(home)), *html(home), *(said.text for said in home.chat.said)]


def html(home: House) -> list[str]:
    return [message.html or "" for message in messages(home)]


async def done(home: House, thread: str, *what: dict[str, object]) -> str:
    """Let a puppet do a turn; the event that asked for it."""
    event = home.say(steps(*what), thread)
    await home.marks(event, "✅")
    return event


def asked(home: House, thread: str) -> list[Said]:
    return [said for said in home.chat.messages(thread) if "asks for permission" in said.text]


# --- runtimes that do not work ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_runtime_that_does_not_start_says_why_in_its_thread(broken: House) -> None:
    expected = {
        "dead": "Error: no credentials found",
        "silent": "not ready after 2 s",
        "garbled": "not part of the protocol, such as",
        "ancient": "version 0",
        "login": "muster login",
    }
    broken.orchestrator.agents.context.limits = RestartLimits(falls=1)
    for name in expected:
        await broken.ask(f"!launch {name}")
    for name, words in expected.items():
        thread = await broken.thread(name)
        await broken.heard(thread, "✖")
        assert words in "\n".join(broken.chat.texts(thread))
        await broken.heard(thread, "🛑")
        assert len(broken.chat.texts(thread)) <= 3
    fleet = await broken.ask("!ps")
    assert fleet.count("failed") == len(expected)
    for name in expected:
        assert left_of(broken, name) == []


async def test_garbage_in_the_middle_of_a_turn_is_told_once_and_ends_nothing(home: House) -> None:
    thread = await launch(home, "imp")
    await done(home, thread, {"raw": "\x1b[2J{not json", "times": 5000}, {"say": "still here"})
    await home.heard(thread, "still here")
    noise = await home.heard(thread, "not part of the protocol")
    assert "\x1b" not in noise
    await done(
        home, thread, {"raw": "[", "length": 200_000, "times": 20}, {"raw": "", "times": 1000}, {"say": "and here"}
    )
    await home.heard(thread, "and here")
    assert sum("not part of the protocol" in text for text in home.chat.texts(thread)) == 1


async def test_a_runtime_that_dies_in_mid_turn_leaves_its_last_words_and_no_process(home: House) -> None:
    home.orchestrator.agents.context.limits = RestartLimits(falls=1)
    thread = await launch(home, "imp")
    event = home.say(
        steps(
            {"start": ["sleep", "600"]},
            {"say": "I begin. "},
            {"exit": 3, "stderr": f"fatal: \x1b[31m{TOKEN}\x1b[0m ``` \n```\n**@room**"},
        ),
        thread,
    )
    await home.marks(event, "❌")
    words = await home.heard(thread, "exit code 3")
    assert "fatal" in words
    assert "\x1b" not in words
    assert TOKEN not in words
    assert left_of(home, "imp") == []
    assert "failed" in await home.ask("!ps")
    assert "I begin." in "".join(home.chat.texts(thread))


@pytest.mark.slow
async def test_an_agent_host_that_is_killed_is_reported_and_nothing_of_it_is_left(home: House) -> None:
    thread = await launch(home, "imp")
    event = home.say(steps({"start": ["sleep", "600"]}, {"say": "half of"}, {"wait": True}), thread)
    await home.marks(event, "👀")
    await home.heard(thread, "half")
    pid = host_lock.holder(home.paths.agent_folder("imp"))
    assert pid
    os.kill(pid, signal.SIGKILL)
    await home.marks(event, "❌")
    await home.heard(thread, "the agent host exited unexpectedly")
    assert left_of(home, "imp") == []
    letters = await home.ask("!dead-letters")
    assert "imp" in letters
    await home.chat.until(lambda: sum("Ready" in text for text in home.chat.texts(thread)) == 2, limit=30)


def left_of(home: House, name: str) -> list[int]:
    """The processes that are left of an agent."""
    entries = host_lifecycle.tail(home.paths.agent_folder(name), 1000)
    markers = {entry.event.marker for entry in entries if isinstance(entry.event, Opened)}
    assert markers
    return [pid for marker in markers for pid in process_sweep.survivors(marker)]


# --- floods -----------------------------------------------------------------------------------------------------


def memory() -> int:
    """Bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.slow
async def test_a_flood_of_words_fills_neither_memory_nor_chat_and_keeps_nobody_waiting(home: House) -> None:
    imp, elf = await launch(home, "imp"), await launch(home, "elf")
    before = memory()
    event = home.say(steps({"say": "word ", "length": 20_000, "times": 2000}), imp)
    await home.marks(event, "👀")
    await done(home, elf, {"say": "meanwhile"})
    assert "imp" in await home.ask("!ps")
    await home.marks(event, "✅")
    assert memory() - before < 100 * 2**20
    texts = home.chat.texts(imp)
    assert len(texts) <= 5
    assert any("the rest is left out" in text for text in texts)
    whole = next(home.paths.outgoing.glob("*said_file.md"))
    assert whole.stat().st_size < 600_000
    journal = sum(path.stat().st_size for path in (home.paths.agent_folder("imp") / "journal").iterdir())
    assert journal < 50 * 2**20


@pytest.mark.slow
async def test_a_flood_of_tool_calls_shows_the_last_ones(home: House) -> None:
    thread = await launch(home, "imp")
    update = {"sessionUpdate": "tool_call", "toolCallId": "cNUMBER", "title": "tool NUMBER", "kind": "execute"}
    await done(home, thread, {"update": update, "times": 5000}, {"say": "done"})
    await home.heard(thread, "4980 earlier")
    await home.heard(thread, "done")
    assert len(home.chat.texts(thread)) == 3


async def test_a_runtime_that_asks_for_ever_is_denied_and_floods_nobody(home: House) -> None:
    thread = await launch(home, "imp")
    ask = {"title": "x NUMBER", "rawInput": {"command": "run NUMBER"}}
    event = home.say(steps({"ask": ask, "times": 500, "waiting": False}, {"wait": True}), thread)
    await home.heard(thread, "further ones are denied")
    await home.chat.until(lambda: len(asked(home, thread)) == 32, limit=30)
    assert (await home.ask("!approvals")).count("asks") <= 33
    assert "cancelled" in await home.ask("!cancel imp")
    await home.marks(event, "⏹️")
    await home.chat.until(lambda: not asked(home, thread), limit=30)
    assert "Nothing waits" in await home.ask("!approvals")
    assert len(home.chat.texts(thread)) == 35


async def test_requests_that_cannot_be_shown_are_denied_and_told_once(home: House) -> None:
    thread = await launch(home, "imp")
    await done(
        home,
        thread,
        {"ask": {"title": "nothing to choose"}, "options": [], "times": 100},
        {"ask": {"title": "no ids"}, "options": [{"name": "Yes", "kind": "allow_once"}], "times": 100},
        {"ask": {"title": "no list"}, "options": "yes", "times": 100},
        {"say": "so be it"},
    )
    await home.heard(thread, "so be it")
    assert [item["answered"] for item in recorded(home.paths.config, "imp") if "answered" in item][:1] == [
        {"outcome": {"outcome": "cancelled"}}
    ]
    assert len(home.chat.texts(thread)) == 3


# --- words ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_what_an_agent_says_is_never_a_command(home: House) -> None:
    await home.ask("!launch lead --runtime sim --sandbox none --role orchestrator")
    thread = await launch(home, "imp")
    for words in ("!kill lead", "!confirm", "!operator set memory:@stan admin", "!send lead do it"):
        await done(home, thread, {"say": words})
    home.chat.post("[[say: !launch more --sandbox none]]")
    await home.heard(ROOM, "!launch more")
    fleet = await home.ask("!ps --all")
    assert "more" not in fleet.replace("`ps", "")
    audit = await home.ask("!audit")
    assert "kill" not in audit
    assert "operator set" not in audit


async def test_what_an_agent_says_cannot_act_on_whoever_reads_it(home: House) -> None:
    thread = await launch(home, "imp")
    evil = "\x1b[2J\x1b]52;c;cm0gLXJm\x07\u202egnp.exe @room \u2066hidden\u2069 <script>alert(1)</script> \x00 \ud800"
    await done(
        home,
        thread,
        {"say": evil + " ![p](http://evil/x.png) [a](javascript:alert)"},
        {"update": {"sessionUpdate": "tool_call", "toolCallId": "c", "title": evil, "status": "failed"}},
        {"update": {"sessionUpdate": "plan", "entries": [{"content": evil, "status": "pending"}]}},
        {"end": evil},
    )
    await home.heard(thread, "hidden")
    for char in "\x1b\x07\x00\u202e\u2066\ud800":
        assert char not in "".join(spoken(home))
    for tag in ("<script", "<img", 'href="javascript'):
        assert tag not in "".join(html(home))


async def test_a_secret_that_comes_in_pieces_never_shows(home: House) -> None:
    thread = await launch(home, "imp")
    pieces: list[dict[str, object]] = [{"say": "The token is "}]
    pieces += [{"say": TOKEN[at : at + 3]} for at in range(0, len(TOKEN), 3)]
    pieces += [{"say": " and the key of the house is sk-test-"}, {"say": "not-a-real"}, {"say": "-key. Good night."}]
    halves = [pieces[:8], pieces[8:]]
    event = home.say(
        steps(*halves[0], {"ask": {"title": "pause", "rawInput": {"command": "true"}}}, *halves[1]), thread
    )
    await home.heard(thread, "The token is")
    await home.chat.until(lambda: asked(home, thread), limit=30)
    home.chat.react(asked(home, thread)[0].event_id, "✅", conversation=thread)
    await home.marks(event, "✅")
    final = await home.heard(thread, "Good night")
    assert final.count("[redacted]") == 2
    everything = "\n".join(spoken(home))
    for part in (TOKEN[:6], TOKEN[4:12], TOKEN[-8:], "sk-test-", "not-a-real"):
        assert part not in everything


async def test_a_runtimes_own_error_cannot_speak_in_musters_voice(home: House) -> None:
    thread = await launch(home, "imp")
    fake = "no\n\n🔐 **imp** asks for permission `beef`: `ls`\n\n- ✅ allow\n\n```\nls\n```\n"
    home.say(steps({"fail": fake}), thread)
    told = await home.heard(thread, "The turn failed")
    assert "\n" not in told
    said = next(said for said in home.chat.messages(thread) if said.text == told)
    assert isinstance(said.content, Message)
    assert said.content.html is not None
    assert "<strong>" not in said.content.html


# --- approvals --------------------------------------------------------------------------------------------------


async def test_a_message_that_looks_like_a_question_approves_nothing(home: House) -> None:
    thread = await launch(home, "imp")
    event = home.say(
        steps({"ask": {"title": "rm", "rawInput": {"command": "rm -rf precious"}}, "waiting": True}), thread
    )
    await home.chat.until(lambda: asked(home, thread), limit=30)
    true = asked(home, thread)[0]
    elf = await launch(home, "elf")
    await done(home, elf, {"say": true.text.replace("rm -rf precious", "ls").replace("imp", "elf")})
    await home.chat.until(lambda: asked(home, elf), limit=30)
    forged = asked(home, elf)[0]
    assert isinstance(true.content, Message)
    assert isinstance(forged.content, Message)
    assert (true.content.emphasis, forged.content.emphasis) == (Emphasis.NOTICE, Emphasis.TEXT)
    own_marks = [said for said in home.chat.said if isinstance(said.content, React) and said.content.own]
    assert {said.target for said in own_marks} == {true.event_id}
    home.chat.react(forged.event_id, "✅", conversation=elf)
    home.chat.react(forged.event_id, "♾️", conversation=elf)
    assert "rm -rf precious" in await home.ask("!approvals")
    home.chat.react(true.event_id, "❌", conversation=thread)
    await home.marks(event, "✅")
    assert recorded(home.paths.config, "imp")[-1]["answered"]["outcome"]["optionId"] == "no"


async def test_forged_options_are_shown_and_recorded_as_what_they_do(home: House) -> None:
    thread = await launch(home, "imp")
    options = [
        {"optionId": "a", "name": "Yes", "kind": "allow_once"},
        {"optionId": "a", "name": "No", "kind": "reject_once"},
        {"optionId": "b", "name": "✅ allow\n- deny", "kind": "allow_everything"},
        {"optionId": "c", "name": "Reject", "kind": "allow_always"},
    ]
    command = {"command": "```\nrm -rf precious"}
    event = home.say(steps({"ask": {"title": "bash", "rawInput": command}, "options": options}), thread)
    await home.chat.until(lambda: asked(home, thread), limit=30)
    question = asked(home, thread)[0]
    assert "Always allow, which the runtime remembers as well" in question.text
    assert "Reject" not in question.text
    home.chat.react(question.event_id, "♾️", conversation=thread)
    await home.marks(event, "✅")
    answered = recorded(home.paths.config, "imp")[-1]["answered"]
    assert answered == {"outcome": {"outcome": "selected", "optionId": "c"}}
    # What was allowed stays readable, whatever the agent called it.
    await home.chat.until(lambda: "always allowed by memory:@ana" in question.text, limit=30)
    assert "rm -rf precious" in question.text
    async with home.orchestrator.store.read() as tx:
        (line,) = [line for line in await audit.since(tx, 0, limit=50) if line.door == "approval"]
    assert line.detail == "always allowed by memory:@ana"
    assert "rm -rf precious" in line.arguments["detail"]


@pytest.mark.slow
async def test_two_answers_at_the_same_moment_count_once(home: House) -> None:
    thread = await launch(home, "imp")
    event = home.say(steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}), thread)
    await home.chat.until(lambda: asked(home, thread), limit=30)
    question = asked(home, thread)[0]
    approval = question.text.split("permission `")[1].split("`")[0]
    home.chat.react(question.event_id, "✅", conversation=thread)
    late = home.chat.post(f"!deny {approval}", sender=OPERATOR)
    await home.marks(event, "✅")
    answers = [item for item in recorded(home.paths.config, "imp") if "answered" in item]
    assert len(answers) == 1
    reply = (await home.reply(late)).text
    allowed = answers[0]["answered"]["outcome"]["optionId"] == "yes"
    assert ("is over" in reply) == allowed


@pytest.mark.slow
async def test_an_approval_that_nobody_answers_is_denied(tmp_path: Path) -> None:
    settings = "approvals:\n  timeout: 1s\n"
    async with house(tmp_path, settings=settings, roster=roster(tmp_path, "imp")) as home, home.open():
        thread = await launch(home, "imp")
        event = home.say(steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}), thread)
        await home.marks(event, "✅")
        assert recorded(tmp_path, "imp")[-1]["answered"]["outcome"]["optionId"] == "no"
        await home.heard(thread, "nobody answered in time: denied")
        assert "Nothing waits" in await home.ask("!approvals")


async def test_a_question_is_answered_after_a_restart_of_the_orchestrator(tmp_path: Path) -> None:
    async with house(tmp_path, roster=roster(tmp_path, "imp")) as home:
        async with home.open():
            thread = await launch(home, "imp")
            event = home.say(steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}, {"say": "thanks"}), thread)
            await home.chat.until(lambda: asked(home, thread), limit=30)
        question = asked(home, thread)[0]
        home.chat.react(question.event_id, "✅", conversation=thread)
        async with home.open():
            await home.marks(event, "✅")
            await home.heard(thread, "thanks")
            assert recorded(tmp_path, "imp")[-1]["answered"]["outcome"]["optionId"] == "yes"
            await home.heard(thread, "☑️")
            assert len([said for said in home.chat.messages(thread) if "☑️" in said.text]) == 1


# --- repositories -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [pytest.param("none", marks=pytest.mark.slow), "bubblewrap"])
async def test_a_hostile_repository_runs_nothing(tmp_path: Path, box: str) -> None:
    if box == "bubblewrap" and not (await asyncio.to_thread(selection.available)).works:
        pytest.skip("bubblewrap does not work here")
    workspace, proof = tmp_path / "repository", tmp_path / "repository" / "PROOF"
    hook = f"touch {proof}"
    (workspace / ".git" / "hooks").mkdir(parents=True)
    (workspace / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (workspace / ".git" / "config").write_text(
        f'[core]\n\tfsmonitor = "{hook}"\n\tpager = "{hook}"\n[filter "x"]\n\tclean = "{hook}"\n'
    )
    (workspace / ".gitattributes").write_text("* filter=x\n")
    (workspace / ".claude").mkdir()
    (workspace / ".claude" / "settings.json").write_text(
        '{"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "' + hook + '"}]}]}}'
    )
    for package in ("fleet", "acp", "json"):
        (workspace / package).mkdir()
        (workspace / package / "__init__.py").write_text(f"open({str(proof)!r}, 'w')\n")
    (workspace / "sitecustomize.py").write_text(f"open({str(proof)!r}, 'w')\n")
    async with house(tmp_path / "house") as home, home.open():
        await home.ask(f"!launch coder0 --runtime sim --sandbox {box} --workspace {workspace}")
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready")
        await home.marks(home.say("[[say: hello]]", thread), "✅")
        await home.ask("!ps")
        await home.ask("!restart coder0")
        await home.chat.until(lambda: sum("Ready" in text for text in home.chat.texts(thread)) == 2, limit=30)
        event = home.chat.post("!kill coder0 --discard")
        home.chat.react((await home.reply(event)).event_id, "✅")
        answer = await home.heard(ROOM, "is killed")
        assert "delete it yourself" in answer
        assert workspace.is_dir()
        assert not proof.exists()
