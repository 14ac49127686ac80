"""Terminals come and go; what is said in them is said once, and nothing in it is obeyed."""

from __future__ import annotations

import asyncio
import getpass
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from connectors.contract.connector_protocol import MessageRefused, NotReady, TryLater
from connectors.contract.connector_registry import NoSettings
from connectors.contract.messages import (
    Batch,
    Emphasis,
    File,
    Inbound,
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    Priority,
    React,
    Reaction,
    Replace,
    Sent,
    Text,
)
from connectors.terminal import connector as terminal
from connectors.terminal import transcript_file as transcript
from connectors.terminal.connector import TerminalConnector, TerminalSession
from connectors.terminal.transcript_file import RoomTranscript, TranscriptLine


class Inbox:
    def __init__(self) -> None:
        self.events: list[Inbound] = []

    async def __call__(self, batch: Batch) -> None:
        self.events += batch.events


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def hub(tmp_path: Path, inbox: Inbox) -> TerminalConnector:
    return made(tmp_path, inbox)


def made(folder: Path, inbox: Inbox | None = None) -> TerminalConnector:
    connector = TerminalConnector("terminal", NoSettings(), folder, clock=lambda: 1000.0)
    if inbox is not None:
        connector.subscribe(inbox)
    return connector


async def sent(
    hub: TerminalConnector,
    key: str,
    content: OutboundContent | str,
    *,
    conversation: str = "fleet",
    target: str | None = None,
    priority: Priority = Priority.REPLY,
) -> Sent:
    if isinstance(content, str):
        content = Message(text=content)
    outbound = Outbound(key=key, connector="terminal", conversation=conversation, content=content, priority=priority)
    return await hub.send(outbound, conversation=conversation, target=target)


async def shown(session: TerminalSession, count: int) -> list[TranscriptLine]:
    async with asyncio.timeout(30):
        return [await anext(session) for _ in range(count)]


async def test_what_a_person_types_is_durable_before_it_counts_as_said(hub: TerminalConnector, inbox: Inbox) -> None:
    async with hub.attached() as session:
        event_id = await session.say("!ps")

    (event,) = inbox.events
    assert event.identity == f"terminal:{getpass.getuser()}"
    assert (event.event_id, event.conversation, event.parent) == (event_id, "fleet", None)
    assert event.body == Text(text="!ps")


async def test_the_same_words_under_the_same_id_are_one_event(hub: TerminalConnector, inbox: Inbox) -> None:
    async with hub.attached() as session:
        first = await session.say("hello", event_id="a1")
        again = await session.say("hello", event_id="a1")
        assert [line.text for line in await shown(session, 1)] == ["hello"]

    assert first == again
    assert {event.event_id for event in inbox.events} == {first}


async def test_all_that_are_attached_see_what_is_said(hub: TerminalConnector) -> None:
    async with hub.attached() as one, hub.attached() as other:
        await sent(hub, "k1", "two agents are up")
        for session in (one, other):
            (line,) = await shown(session, 1)
            assert (line.kind, line.text, line.conversation, line.author) == (
                "message",
                "two agents are up",
                "fleet",
                "",
            )


async def test_a_key_counts_once_also_after_a_restart(hub: TerminalConnector, tmp_path: Path) -> None:
    await sent(hub, "k1", "once")
    await sent(hub, "k1", "once")
    later = made(tmp_path)
    await sent(later, "k1", "once")

    async with later.attached() as session:
        await sent(later, "k2", "the end")
        assert [line.text for line in await shown(session, 2)] == ["once", "the end"]
    assert later.scope() == hub.scope()
    found = await later.find(
        Outbound(key="k1", connector="terminal", conversation="fleet", content=Message(text="once")),
        conversation="fleet",
        target=None,
    )
    assert found is not None
    assert found.event_id == "k1"


async def test_a_lost_transcript_is_another_scope(hub: TerminalConnector, tmp_path: Path) -> None:
    (tmp_path / "transcript.jsonl").unlink()
    assert made(tmp_path).scope() != hub.scope()


async def test_a_thread_is_a_conversation_with_the_name_of_its_title(hub: TerminalConnector, inbox: Inbox) -> None:
    opener = OpenThread(title="coder0", message=Message(text="coder0 starts"))
    opened = await sent(hub, "th/1", opener)
    other = await sent(hub, "th/2", opener)
    again = await sent(hub, "th/1", opener)

    assert opened.conversation == again.conversation == "fleet/coder0"
    assert other.conversation == "fleet/coder0-2"
    assert hub.conversations() == ["fleet", "fleet/coder0", "fleet/coder0-2"]
    async with hub.attached() as session:
        await session.say("hello", conversation="fleet/coder0")
    assert (inbox.events[0].conversation, inbox.events[0].parent) == ("fleet/coder0", "fleet")


async def test_threads_outlive_a_restart(hub: TerminalConnector, tmp_path: Path) -> None:
    await sent(hub, "th/1", OpenThread(title="coder0", message=Message(text="coder0 starts")))
    assert made(tmp_path).conversations() == ["fleet", "fleet/coder0"]


@pytest.mark.parametrize("title", ["../../etc", "a/b c", "\x1b[31m", "", "ж", "x" * 500])
async def test_a_strange_title_makes_a_plain_name(hub: TerminalConnector, title: str) -> None:
    opened = await sent(hub, "th/1", OpenThread(title=title, message=Message(text="x")))
    assert opened.conversation is not None
    assert opened.conversation.startswith("fleet/")
    assert opened.conversation.removeprefix("fleet/").isprintable()
    assert "/" not in opened.conversation.removeprefix("fleet/")
    assert len(opened.conversation) < 80


async def test_edits_reactions_and_files_show_as_lines(hub: TerminalConnector) -> None:
    async with hub.attached() as session:
        question = await session.say("fix it")
        await sent(hub, "k1", Message(text="I", emphasis=Emphasis.TEXT), priority=Priority.PROGRESS)
        await sent(hub, "k1/2", Replace(target="k1", message=Message(text="I did"), final=True), target="k1")
        await sent(hub, "k2", React(target=question, key="✅"), target=question)
        await sent(hub, "k3", File(path="/x/long.md", name="long.md", media_type="text/markdown", caption="The rest:"))
        said, begun, done, mark, file = await shown(session, 5)

    assert (said.kind, said.author, said.text) == ("input", getpass.getuser(), "fix it")
    assert (begun.kind, begun.final, begun.aside) == ("message", False, False)
    assert (done.kind, done.target, done.text, done.final) == ("edit", "k1", "I did", True)
    assert (mark.kind, mark.target, mark.text) == ("reaction", question, "✅")
    assert "[long.md: /x/long.md]" in file.text


async def test_nothing_that_is_said_is_obeyed_by_a_terminal(hub: TerminalConnector) -> None:
    async with hub.attached() as session:
        await sent(hub, "k1", "a\x1b]0;title\x07b\x9b31m\rc\u202egnp\nd\te")
        (line,) = await shown(session, 1)
    assert line.text == "a\ufffd]0;title\ufffdb\ufffd31m\ufffdc\ufffdgnp\nd\te"


async def test_a_client_that_attaches_later_sees_what_it_missed(hub: TerminalConnector, tmp_path: Path) -> None:
    async with hub.attached() as session:
        await sent(hub, "old", "old")
        await shown(session, 1)
    for number in range(30):
        await sent(hub, f"k{number}", f"news {number}")
    await sent(hub, "edit", Replace(target="k29", message=Message(text="last news"), final=True), target="k29")

    async with made(tmp_path).attached() as session:
        lines = await shown(session, 30)
    assert [lines[0].text, lines[-1].text] == ["news 0", "last news"]


async def test_a_client_that_comes_back_goes_on_after_its_last_line(hub: TerminalConnector) -> None:
    async with hub.attached() as session:
        await sent(hub, "k1", "one")
        (line,) = await shown(session, 1)
    await sent(hub, "k2", "two")
    async with hub.attached(after=line.seq) as session:
        await sent(hub, "k3", "three")
        assert [line.text for line in await shown(session, 2)] == ["two", "three"]


async def test_a_client_that_attaches_while_a_line_is_written_sees_it_once(
    hub: TerminalConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, attached = asyncio.Event(), threading.Event()
    loop, add = asyncio.get_running_loop(), RoomTranscript.add

    def slowly(self: RoomTranscript, line: TranscriptLine) -> TranscriptLine:
        added = add(self, line)
        loop.call_soon_threadsafe(written.set)
        assert attached.wait(30)
        return added

    monkeypatch.setattr(RoomTranscript, "add", slowly)
    sending = asyncio.create_task(sent(hub, "k1", "one"))
    await written.wait()
    async with hub.attached() as session:
        attached.set()
        await sending
        await sent(hub, "k2", "two")
        assert [line.text for line in await shown(session, 2)] == ["one", "two"]


async def test_reactions_reach_muster(hub: TerminalConnector, inbox: Inbox) -> None:
    await sent(hub, "ask", "May I?", conversation="fleet")
    async with hub.attached() as session:
        await session.react("ask", "✅")
        with pytest.raises(MessageRefused, match="no such message"):
            await session.react("nothing", "✅")
    assert inbox.events[0].body == Reaction(target="ask", key="✅")


@pytest.mark.parametrize("text", ["", " \n", "x" * (terminal.LONGEST_INPUT + 1)])
async def test_a_message_that_cannot_be_taken(hub: TerminalConnector, inbox: Inbox, text: str) -> None:
    async with hub.attached() as session:
        with pytest.raises(MessageRefused):
            await session.say(text)
    assert inbox.events == []


async def test_an_unknown_conversation_names_the_known_ones(hub: TerminalConnector) -> None:
    async with hub.attached() as session:
        with pytest.raises(MessageRefused, match=r"no conversation 'flet'. There are fleet."):
            await session.say("hello", conversation="flet")


async def test_before_muster_is_up_nothing_is_taken(tmp_path: Path) -> None:
    async with made(tmp_path).attached() as session:
        with pytest.raises(NotReady):
            await session.say("hello")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"type": "say", "text": "hello", "id": "a1"}, {"type": "accepted", "id": "said-a1"}),
        ({"type": "say", "text": "", "id": "a1"}, {"type": "refused", "id": "a1"}),
        ({"type": "say", "text": "x", "conversation": "nowhere"}, {"type": "refused"}),
        ({"type": "say", "text": "x", "conversation": 3}, {"type": "refused"}),
        ({"type": "say", "text": 3}, {"type": "refused"}),
        ({"type": "say", "text": "x", "id": "../\n"}, {"type": "refused"}),
        ({"type": "react", "target": "k", "key": "✅"}, {"type": "refused"}),
        ({"type": "conversations"}, {"type": "conversations", "conversations": ["fleet"]}),
        ({"type": "shutdown"}, {"type": "refused"}),
        ({}, {"type": "refused"}),
        (None, {"type": "refused"}),
        (["say"], {"type": "refused"}),
    ],
)
async def test_a_client_behind_the_socket(hub: TerminalConnector, request_: Any, answer: dict[str, Any]) -> None:
    async with hub.attached() as session:
        given = await session.receive(request_)
    assert answer.items() <= given.items()
    assert ("reason" in given) == (answer["type"] == "refused")


async def test_a_client_that_takes_nothing_is_let_go(hub: TerminalConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "MOST_WAITING", 3)
    async with hub.attached() as session:
        for number in range(6):
            await sent(hub, f"k{number}", str(number))
        assert [line.text async for line in session] == ["0", "1", "2"]


async def test_stopping_lets_everybody_go(hub: TerminalConnector) -> None:
    async with hub.attached() as session:
        await hub.stop()
        assert [line async for line in session] == []


async def test_a_full_disk_is_no_send(hub: TerminalConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    await sent(hub, "k1", "one")
    with monkeypatch.context() as full:
        full.setattr("os.fdatasync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(TryLater, match="No space left"):
            await sent(hub, "k2", "two")
    await sent(hub, "k2", "two")
    async with hub.attached() as session:
        assert [line.text for line in await shown(session, 2)] == ["one", "two"]


async def test_a_line_that_a_crash_cut_off_is_forgotten(hub: TerminalConnector, tmp_path: Path) -> None:
    await sent(hub, "k1", "one")
    with (tmp_path / "transcript.jsonl").open("ab") as file:
        file.write(b'{"kind":"message","id":"k2","te')
    later = made(tmp_path)
    await sent(later, "k2", "two")

    async with made(tmp_path).attached() as session:
        assert [line.text for line in await shown(session, 2)] == ["one", "two"]


async def test_garbage_in_the_transcript_costs_only_itself(hub: TerminalConnector, tmp_path: Path) -> None:
    await sent(hub, "k1", "one")
    with (tmp_path / "transcript.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n[1]\n{}\n" + json.dumps({"kind": "x", "id": 3}).encode() + b"\n")
    later = made(tmp_path)
    await sent(later, "k2", "two")
    async with later.attached() as session:
        assert [line.text for line in await shown(session, 2)] == ["one", "two"]


async def test_a_large_transcript_is_made_smaller_and_forgets_no_key(
    hub: TerminalConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript, "LARGEST_FILE", 20_000)
    monkeypatch.setattr(transcript, "KEPT_LINES", 20)
    await sent(hub, "th", OpenThread(title="coder0", message=Message(text="starts")))
    for number in range(200):
        await sent(hub, f"k{number}", f"message {number} " + "x" * 100)

    file = tmp_path / "transcript.jsonl"
    assert file.stat().st_size < 45_000
    assert file.stat().st_mode & 0o777 == 0o600
    later = made(tmp_path)
    assert later.scope() == hub.scope()
    assert "fleet/coder0" in later.conversations()
    async with later.attached(after=0) as session:
        await sent(later, "k3", "message 3 again")
        await sent(later, "end", "end")
        lines: list[TranscriptLine] = []
        while not lines or lines[-1].text != "end":
            lines += await shown(session, 1)
    assert not any("again" in line.text for line in lines)
    assert lines[-1].seq > 200


async def test_health_says_how_to_attach(hub: TerminalConnector) -> None:
    health = await hub.health()
    assert "muster chat" in health.detail
    async with hub.attached():
        assert "1 terminal attached" in (await hub.health()).detail


async def test_typing_shows_and_is_not_kept(hub: TerminalConnector) -> None:
    async with hub.attached() as session:
        await hub.typing("fleet/coder0", active=True)
        (line,) = await shown(session, 1)
    assert (line.kind, line.conversation, line.active) == ("typing", "fleet/coder0", True)
    async with hub.attached(after=0) as session:
        session.end()
        assert [line async for line in session] == []
