"""A person comments on lines of what an agent changed, without scripts, and sends all comments as one message."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.interfaces.web.diff_lines import diff_lines
from bot.interfaces.web.review.pages import ShownChanges
from database.queries.agents import agent_messages
from database.queries.operations import web_sessions
from tests.bot.interfaces.web.browser import WEB, Answer, Browser, browser
from tests.bot.interfaces.web.review.test_comments import quoting
from tests.bot.interfaces.web.test_hostile import CORPUS, looked_at, templates, visitor
from tests.bot.orchestrator import ADMIN, OPERATOR, House
from tests.bot.projects.fleet_with_project import ask, fleet

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """An orchestrator with the agent web-1, which changed a file."""
    async with fleet(tmp_path, settings=WEB) as (made, repo), made.open():
        _, thread = await ask(made, "[[say: here I am]]")
        await made.heard(thread, "here I am")
        clone = made.orchestrator.services.planner.workspaces.place("web-1", repo)
        (clone / "page.html").write_text("<p>two</p>\n<b>three</b>\n")
        yield made


async def changes(it: Browser) -> tuple[str, Answer]:
    """The page of the agent's changes, and its address."""
    token = (await it.get("/commands/diff")).field("csrf")
    answer = await it.post("/commands/diff", {"csrf": token, "a.name": "web-1"})
    path = answer.headers["Location"].partition("?")[0]
    return path, await it.get(path)


def place_of(page: Answer, label: str) -> str:
    """The address of the form for a line."""
    found = page.text.partition(f'aria-label="{label}')[0].rpartition('<a href="')[2].partition('"')[0]
    assert "/lines/" in found
    return found


async def comment(it: Browser, path: str, line: str, words: str, count: str = "1") -> Answer:
    form = await it.get(line)
    names = ("csrf", "comment", "place")
    return await it.post(f"{path}/comments", {**{n: form.field(n) for n in names}, "count": count, "words": words})


async def test_comments_are_collected_and_sent_as_one_message(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    path, page = await changes(it)
    assert "<h1>Changes of web-1</h1>" in page.text
    removed, added = place_of(page, "Comment on removed line 1 of page.html"), place_of(page, "Comment on line 2")
    assert (await comment(it, path, removed, "Keep **this**.", "2")).headers["Location"] == f"{path}#comments"
    await comment(it, path, added, "Not bold.")
    # A reload, and another look at the changes, show what was collected.
    path, page = await changes(it)
    assert "<strong>this</strong>" in page.text
    assert "Send 2 comments to web-1 as one message" in page.text
    sent = {"csrf": page.field("csrf"), "run": page.field("run")}
    done = await it.post(f"{path}/send", sent)
    assert "send: done" in (await it.get(done.headers["Location"])).text
    talk = await it.get("/agents/web-1")
    assert "2 comments on your changes." in talk.text
    said = await message(home, sent["run"])
    assert said is not None
    assert said.count("> ```diff") == 2
    assert "> -<p>one</p>\n> +<p>two</p>\n> ```\n\nKeep **this**." in said
    assert "**2. `page.html`, line 2:**\n\n> ```diff\n> +<b>three</b>\n> ```\n\nNot bold." in said
    assert "There are none yet." in (await it.get(path)).text
    again = await it.post(f"{path}/send", sent)
    assert (again.status, "may have been sent in another tab" in again.text) == (422, True)


async def message(home: House, run: str) -> str | None:
    """The text of the message that a run sent."""
    async with home.orchestrator.store.read() as tx:
        found = await agent_messages.get(tx, f"web:{run}")
    return None if found is None else found.text


async def test_a_comment_is_removed(it: Browser) -> None:
    await it.log_in()
    path, page = await changes(it)
    await comment(it, path, place_of(page, "Comment on line 1"), "Wrong line.")
    page = await it.get(path)
    await it.post(f"{path}/comments/remove", {"csrf": page.field("csrf"), "id": page.field("id")})
    assert "Wrong line." not in (await it.get(path)).text


async def test_what_is_wrong_with_a_comment_is_said(it: Browser) -> None:
    await it.log_in()
    path, page = await changes(it)
    line = place_of(page, "Comment on line 1")
    for words, count, why in (("", "1", "has no words"), ("x", "99", "1 to 40 lines"), ("x", "many", "as numbers")):
        refused = await comment(it, path, line, words, count)
        assert (refused.status, why in refused.text) == (422, True)
    assert (await it.get(f"{path}/lines/0")).status == 422
    assert (await it.get(f"{path}/lines/99999")).status == 422
    assert (await it.get(f"/changes/{'0' * 32}")).status == 404


async def test_who_only_watches_sees_the_changes_and_no_form(it: Browser) -> None:
    await it.log_in(control=False)
    path, page = await changes(it)
    assert "&lt;b&gt;three" in page.text
    assert "/lines/" not in page.text
    assert (await it.get(f"{path}/lines/4")).status == 403
    for act in ("comments", "comments/remove", "send"):
        refused = await it.post(f"{path}/{act}", {"csrf": page.field("csrf")})
        assert (refused.status, "only watches" in refused.text) == (403, True)


async def test_changes_and_comments_are_of_one_person_and_one_browser(home: House, it: Browser) -> None:
    await it.log_in(ADMIN)
    path, page = await changes(it)
    await comment(it, path, place_of(page, "Comment on line 1"), "For my eyes.")
    async with browser(home) as own, browser(home) as other:
        await own.log_in(ADMIN)
        await other.log_in(OPERATOR)
        assert "For my eyes." not in (await own.get(path)).text
        assert (await other.get(path)).status == 404
        token = (await other.get("/")).field("csrf")
        assert (await other.post(f"{path}/send", {"csrf": token})).status == 404
        assert (await it.post(f"{path}/send", {"csrf": token})).status == 403


async def test_a_session_takes_its_comments_along_when_it_ends(home: House, it: Browser) -> None:
    await it.log_in()
    path, page = await changes(it)
    await comment(it, path, place_of(page, "Comment on line 1"), "Not sent.")
    session = (await home.ask("!web sessions")).split("| `")[1].split("`")[0]
    await home.ask(f"!web logout {session}")
    async with home.orchestrator.store.read() as tx:
        row = await web_sessions.get(tx, session)
    assert row is not None
    assert row.comments is None


async def test_who_may_not_send_any_more_sends_no_comments(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    path, page = await changes(it)
    await comment(it, path, place_of(page, "Comment on line 1"), "Too late.")
    await home.ask("!operator set memory:@otto viewer")
    assert (await it.get(path)).status == 403
    run = "cd" * 16
    assert (await it.post(f"{path}/send", {"csrf": page.field("csrf"), "run": run})).status == 403
    assert await message(home, run) is None


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_changes_are_shown_and_not_obeyed(text: str) -> None:
    diff = f"diff --git a/x b/x\n+++ b/{text}\n@@ -1 +1 @@\n+{text}"
    shown = ShownChanges("ab" * 16, "coder0", text, diff_lines(diff), False)
    html = templates().render(
        "changes.html", title=text, navigation=[], badge="", live=(), path="/", back="/", shown=shown, problem=None,
        collected=[quoting(text, text)], run="0", may_send=True, visitor=visitor(text), form_token="0",
        may_answer=True, is_admin=True, most_quoted=40,
    )  # fmt: skip
    html = html.replace('<a href="#comments">', '<a href="/">')
    found = looked_at(html.partition("<main")[2].partition("</main>")[0])
    assert found.faults == []
