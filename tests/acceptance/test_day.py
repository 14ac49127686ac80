"""What operators do all day, the same at every seat; where a chat system lacks something, its fallback serves."""

from __future__ import annotations

import io
import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image

from fleet.supervision import host_lock
from tests.acceptance.conftest import STANDING, Day
from tests.acceptance.seat import Seen
from tests.bot.projects.fleet_with_project import git, repository
from tests.pictures import PIXEL

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_agent_is_launched_listed_and_stopped(day: Day) -> None:
    place = await day.ana.launch("guest")
    assert (place != day.seat.room) == day.ana.can().threads, "its own thread, or the room"
    listed = await day.ana.ask("!ps", "guest")
    assert STANDING in listed.text
    said = await day.ana.say("!stop guest")
    await day.ana.heard("Stopped", place=place, after=said)


async def test_what_is_said_to_an_agent_is_answered_once_with_receipts(day: Day) -> None:
    token = day.token()
    said = await day.ana.tell(STANDING, f"[[say: one **two** {token}]]")
    answer = await day.ana.heard(f"one **two** {token}", after=said)
    assert (answer.text, answer.place) == (day.by(STANDING, f"one **two** {token}"), day.thread)
    await day.ana.marked(said, "📥", "👀", "✅")
    assert len(await day.ana.standing(token)) == 1
    if day.ana.can().reactions:
        assert await day.seat.receipts(said.id, said.place) == ["📥", "👀", "✅"]


async def test_a_streamed_answer_is_one_message_whose_last_words_are_exact(day: Day) -> None:
    token = day.token()
    said = await day.ana.tell(
        STANDING, f"[[stream: 40 {token}]][[wait: {token}]][[stream: 40 late]][[say: and **done**.]]"
    )
    if day.ana.can().edits:
        await day.ana.heard(f"{token} {token}", after=said)
    else:
        await day.ana.at_work(STANDING)
        assert not await day.ana.standing(f"{token} {token}"), "what cannot be changed waits until it is whole"
    day.models.release(token)
    whole = await day.ana.heard("and **done**.", after=said)
    await day.ana.marked(said, "✅")
    (answer,) = await day.ana.standing(f"{token} {token}")
    assert answer.id == whole.id
    assert answer.text == day.by(STANDING, day.models.ledger.entries[-1].answer.strip())
    assert (answer.changes > 0) == day.ana.can().edits


async def test_a_permission_is_asked_for_and_given(day: Day) -> None:
    token = day.token()
    said = await day.ana.tell(STANDING, f"[[run: echo permitted > {token}]][[say: {token} is done]]")
    question = await day.ana.heard("asks for permission", place=day.thread, after=said)
    assert f"echo permitted > {token}" in question.text
    assert ("✅" in question.text) == (day.ana.can().taps or day.ana.can().buttons), "no sign of what cannot be used"
    proof = day.paths.workspace(STANDING) / token
    assert not proof.exists()
    await day.ana.answer(question, "✅", "allow")
    await day.ana.heard(f"{token} is done", place=day.thread, after=said)
    assert proof.read_text() == "permitted\n"
    await day.ana.changed(question, "☑️")
    await day.ana.marked(said, "✅")


async def test_a_permission_is_denied_by_command(day: Day) -> None:
    token = day.token()
    said = await day.ana.tell(STANDING, f"[[run: echo permitted > {token}]][[say: {token} is over]]")
    question = await day.ana.heard("asks for permission", place=day.thread, after=said)
    command = re.search(r"!deny \w+", question.text)
    assert command is not None
    await day.ana.say(command[0], question.place)
    await day.ana.heard(f"{token} is over", place=day.thread, after=said)
    assert not (day.paths.workspace(STANDING) / token).exists()


async def test_what_cannot_be_undone_waits_for_a_word(day: Day) -> None:
    await day.ana.launch("victim")
    question = await day.ana.ask("!kill victim", "cannot be undone")
    await day.ana.ask("!decline", "was taken back", question.place)
    question = await day.ana.ask("!kill victim", "cannot be undone")
    await day.ana.answer(question, "✅", "rite")
    await day.ana.heard("victim is killed")


async def test_a_file_reaches_the_model_or_is_named(day: Day) -> None:
    token = day.token()
    if day.seat.attaches:
        sent = await day.seat.attach(PIXEL, "dot.png", "image/png", day.thread, f"what is this {token}?")
        assert sent
        await day.ana.heard(f"image/png, {len(PIXEL)} bytes")
    else:
        path = day.paths.workspace(STANDING) / "dot.png"
        await day.ana.tell(STANDING, f"what is {path} {token}?")
        await day.ana.heard(f"what is {path} {token}?", place=day.thread)


async def test_what_is_too_long_for_a_message_comes_as_a_file_or_in_pieces(day: Day) -> None:
    token = day.token()
    said = await day.ana.tell(STANDING, f"[[stream: 5000 {token}]]")
    await day.ana.marked(said, "✅")
    if day.ana.can().files:
        file = await day.seat.until(
            lambda seen: next((each.file for each in seen[said.before :] if each.file), None), "the file"
        )
        assert (await day.seat.fetch(file)).decode().split().count(token) == 5000
        # The message's last words can come behind the file.
        beginning = await day.ana.heard("the whole text is in the file", after=said)
        assert token in beginning.text
        return

    def whole(seen: list[Seen]) -> list[Seen] | None:
        pieces = [each for each in seen[said.before :] if token in each.text and "[[" not in each.text]
        return pieces if "".join(each.text for each in pieces).split().count(token) == 5000 else None

    pieces = await day.seat.until(whole, "all pieces")
    assert max(len(each.text) for each in pieces) <= day.ana.can().max_text


async def test_a_report_has_a_picture(day: Day) -> None:
    said = await day.ana.say("!report budget")
    report = await day.ana.heard("host day", after=said)
    if not day.ana.can().pictures or not day.ana.can().files:
        assert "```" in report.text, "drawn in letters"
        return
    file = await day.seat.until(
        lambda seen: next((each.file for each in seen[said.before :] if each.file), None), "the picture"
    )
    with Image.open(io.BytesIO(await day.seat.fetch(file))) as opened:
        assert opened.format == "PNG"


async def test_a_turn_that_was_cut_is_a_dead_letter_until_somebody_sends_it_again(day: Day) -> None:
    token = day.token()
    await day.ana.launch("mortal")
    said = await day.ana.tell("mortal", f"[[say: begun]][[wait: {token}]][[say: and {token} ended]]")
    await day.ana.at_work("mortal")
    await day.ana.marked(said, "👀")
    assert await day.models.ledger.find(lambda entry: token in entry.text, at_least=1, timeout=20)
    pid = host_lock.holder(day.paths.agent_folder("mortal"))
    assert pid
    os.kill(pid, signal.SIGKILL)
    await day.ana.heard("the agent host exited unexpectedly", after=said)
    await day.ana.marked(said, "❌")
    day.models.release(token)
    await day.ana.heard("going on with its conversation", after=said)
    read = [entry for entry in day.models.ledger.entries if token in entry.text]
    assert len(read) == 1, "nothing is sent again by itself"
    letters = await day.ana.ask("!dead-letters", token)
    await day.ana.ask(f"!retry {letters.text.split('`')[1]}", "Sent again")
    await day.ana.heard(f"and {token} ended", after=said)
    await day.ana.marked(said, "✅")
    await day.ana.ask("!dead-letters", "Everything was delivered")


async def test_a_sentence_opens_a_topic_whose_work_is_merged(day: Day, tmp_path: Path) -> None:
    repo, token = repository(tmp_path / "web"), day.token()
    await day.ana.ask(f"!project add web --repo {repo}", "web is a project now")
    said = await day.ana.say(f"@web [[say: it is mended]] {token} please")
    if not day.ana.can().threads:
        await day.ana.heard("has no threads", after=said)
    else:

        def opener(seen: list[Seen]) -> Seen | None:
            return next((each for each in seen if "web-1" in each.text and token in each.text and each.opens), None)

        thread = (await day.seat.until(opener, "the topic's thread")).opens
        await day.ana.heard("it is mended", place=thread, after=said)
        await day.ana.marked(said, "📥", "👀", "✅")
        again = await day.ana.say(f"[[say: {token} again]]", thread)
        await day.ana.heard(f"{token} again", place=thread, after=again)
        place = day.orchestrator.services.planner.workspaces.place("web-1", repo)
        (place / "page.html").write_text(token)
        git(place, "commit", "--quiet", "-am", "Mended")
        asked = await day.ana.say("!done", thread)
        question = await day.ana.heard("How does web-1 end", place=thread, after=asked)
        await day.ana.answer(question, "🔀", "merge the branch")
        await day.ana.heard("is merged into", place=thread, after=asked)
        assert (repo / "page.html").read_text() == token
        over = await day.ana.say("and?", thread)
        await day.ana.heard("This topic is over", place=thread, after=over)
    await day.ana.ask("!project remove web", "needs your confirmation")
    await day.ana.ask("!confirm", "is no project any more")


async def test_work_is_shown_while_it_goes_on(day: Day) -> None:
    if not day.ana.can().typing:
        return
    token = day.token()
    said = await day.ana.tell(STANDING, f"[[wait: {token}]][[say: {token} rested]]")

    async def at_work() -> bool:
        return bool({day.thread, day.seat.room} & await day.seat.working())

    await day.ana.wait(at_work, "somebody is shown to be at work")
    day.models.release(token)
    await day.ana.heard(f"{token} rested", after=said, place=day.thread)


async def test_a_queued_message_can_be_taken_back_and_an_edit_is_not_read(day: Day) -> None:
    if not day.seat.takes_back:
        return
    token = day.token()
    first = await day.ana.tell(STANDING, f"[[wait: {token}]][[say: {token} first]]")
    regretted = await day.ana.tell(STANDING, f"regretted {token}")
    await day.ana.marked(regretted, "📥")
    await day.seat.take_back(regretted.id, regretted.place)
    await day.seat.edit(first.id, f"edited {token}", first.place)
    await day.ana.heard("Edits are not read", after=first)
    day.models.release(token)
    await day.ana.marked(first, "✅")
    assert not any(f"regretted {token}" in entry.text for entry in day.models.ledger.entries)
