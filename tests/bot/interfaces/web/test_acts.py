"""What browsers do is done once, as their person, by the command table."""

from __future__ import annotations

import asyncio
import re

from bot.auth.permission import Permission
from bot.commands.context import Context
from bot.commands.registry import TABLE, Checked, CommandTable, Reply
from bot.commands.services import CommandServices
from bot.interfaces.web import forms
from database.queries.operations import audit_log
from database.queries.operations.audit_log import AuditRow
from tests.bot.interfaces.web.browser import Browser, browser, event
from tests.bot.orchestrator import ADMIN, OPERATOR, VIEWER, House


async def audited(home: House, action: str) -> list[AuditRow]:
    async with home.orchestrator.store.read() as tx:
        return [row for row in await audit_log.since(tx, 0, limit=100) if row.action == action]


async def asked(home: House, words: str = "[[run: echo permitted > proof.txt]]") -> str:
    """Have an agent ask for permission; return the request's id."""
    thread = await home.launch("coder0")
    home.say(words, thread)
    question = await home.heard(thread, "asks for permission")
    return question.split("permission `")[1].split("`")[0]


def answer_form(page: str, label: str) -> dict[str, str]:
    """The fields of the form with this button."""
    form = next(each for each in re.findall(r"<form.*?</form>", page, re.DOTALL) if f">{label}</button>" in each)
    return dict(re.findall(r'name="([^"]+)" value="([^"]*)"', form))


async def test_a_command_runs_once_as_its_person_with_the_door_web(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    run = "ab" * 16
    first = await it.run("task add", {"text": "Write a test.", "role": "coder"}, run=run)
    assert "task add: done" in first.text
    again = await it.run("task add", {"text": "Write a test.", "role": "coder"}, run=run)
    assert again.text.count("Write a test.") == first.text.count("Write a test.")
    rows = await audited(home, "task add")
    assert [(row.identity, row.door, row.outcome) for row in rows] == [("memory:@otto", "web", "done")]
    assert (await it.get("/tasks")).text.count("Write a test.") == 1
    other = await it.run("task add", {"text": "Another."}, run=run)
    assert other.status == 422


async def test_the_outcome_of_a_run_is_for_its_person(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    run = "cd" * 16
    await it.run("task add", {"text": "Write a test."}, run=run)
    assert (await it.get(f"/done/{run}")).status == 200
    async with browser(home) as other:
        await other.log_in(VIEWER)
        assert (await other.get(f"/done/{run}")).status == 404


async def test_a_request_is_answered_by_a_button(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    number = await asked(home)
    for path in ("/waiting", f"/waiting/{number}", "/agents/coder0"):
        page = await it.get(path)
        assert "echo permitted &gt; proof.txt" in page.text, path
        assert answer_form(page.text, "Allow once")["a.id"] == number
    assert '1<span class="unseen"> waiting' in page.text
    answer = await it.post("/commands/approve", answer_form(page.text, "Allow once"), X_Muster_Part="1")
    assert answer.status == 200
    proof = home.paths.workspace("coder0") / "proof.txt"
    await home.chat.until(proof.exists, limit=30)
    assert [(row.identity, row.door) for row in await audited(home, "approve")] == [("memory:@otto", "web")]
    assert "does not wait for an answer" in (await it.get(f"/waiting/{number}")).text


async def test_two_browsers_answer_one_request_once(home: House, it: Browser) -> None:
    async with browser(home) as other:
        await it.log_in(OPERATOR)
        await other.log_in()
        await asked(home, "[[run: echo once >> proof.txt]]")
        pages = [(each, (await each.get("/waiting")).text) for each in (it, other)]
        answers = await asyncio.gather(
            *(
                each.post("/commands/approve", answer_form(page, "Allow once"), X_Muster_Part="1")
                for each, page in pages
            )
        )
    assert sorted(answer.status for answer in answers) == [200, 422]
    proof = home.paths.workspace("coder0") / "proof.txt"
    await home.chat.until(proof.exists, limit=30)
    assert proof.read_text() == "once\n"


async def test_only_admins_have_the_buttons_that_add_rules(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    await asked(home)
    page = (await it.get("/waiting")).text
    assert "Deny</button>" in page
    assert "for 30 minutes</button>" not in page
    async with browser(home) as admin:
        await admin.log_in()
        assert "for 30 minutes</button>" in (await admin.get("/waiting")).text


async def test_a_long_request_is_allowed_where_it_is_shown_whole(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    request = await asked(home, f"[[run: : {'x' * 9_000} && echo permitted > proof.txt]]")
    listed = (await it.get("/waiting")).text
    assert "permitted &gt; proof.txt" not in listed
    assert f'<a href="/waiting/{request}">The whole request</a>' in listed
    assert "Allow once</button>" not in listed
    assert "Deny</button>" in listed
    agent = (await it.get("/agents/coder0")).text
    assert "Allow once</button>" not in agent
    whole = (await it.get(f"/waiting/{request}")).text
    assert "permitted &gt; proof.txt" in whole
    path = f"request?name={request}&whole=1"
    async with asyncio.timeout(60), it.stream(path) as stream:
        first = await event(stream)
        assert first is not None
        assert "does not wait" not in first["html"]
        answer = await it.post("/commands/approve", answer_form(whole, "Allow once"))
        assert answer.status == 303
        while "does not wait for an answer any more" not in ((await event(stream)) or {})["html"]:
            pass
    await home.chat.until((home.paths.workspace("coder0") / "proof.txt").exists, limit=30)
    assert "does not wait for an answer any more" in (await it.get(f"/waiting/{request}")).text


async def test_who_only_watches_changes_nothing(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR, control=False)
    await asked(home)
    page = await it.get("/waiting")
    assert "This browser only watches" in page.text
    assert '<button class="good"' not in page.text
    assert "This browser only watches" in (await it.get("/commands/launch")).text
    token = page.field("csrf")
    refused = await it.post("/commands/task/add", {"csrf": token, "a.text": "x"})
    assert refused.status == 403
    assert "only watches" in refused.text
    assert "coder0" in (await it.run("ps")).text
    assert await audited(home, "task add") == []


async def test_a_viewer_gives_no_commands_of_operators(home: House, it: Browser) -> None:
    await it.log_in(VIEWER)
    await home.launch("coder0")
    page = await it.get("/")
    assert 'href="/waiting"' not in page.text
    assert (await it.get("/waiting")).status == 403
    assert (await it.get("/commands/launch")).status == 403
    assert "Deny" not in (await it.get("/agents/coder0")).text
    for path in ("/commands/stop", "/commands/approve", "/commands/operator/set"):
        assert (await it.post(path, {"csrf": page.field("csrf"), "a.name": "coder0"})).status == 403
    assert await audited(home, "stop") == []


async def test_the_permission_is_asked_at_each_act(home: House, it: Browser) -> None:
    await it.log_in(OPERATOR)
    token = (await it.get("/")).field("csrf")
    await home.ask("!operator set memory:@otto viewer")
    assert (await it.post("/commands/task/add", {"csrf": token, "a.text": "x"})).status == 403


async def test_a_browser_that_only_watches_logs_out_its_own_person_alone(home: House, it: Browser) -> None:
    async with browser(home) as other, browser(home) as own:
        await it.log_in(control=False)
        await own.log_in(control=False)
        await other.log_in(OPERATOR)
        token = (await it.get("/")).field("csrf")
        for sender, status in ((OPERATOR, 403), (ADMIN, 303)):
            listed = await home.ask("!web sessions")
            session = next(line for line in listed.splitlines() if f"memory:{sender}" in line).split("`")[1]
            answer = await it.post("/commands/web/logout", {"csrf": token, "a.id": session})
            assert answer.status == status
        assert (await other.get("/")).status == 200
        assert (await own.get("/")).status == 303


async def test_a_command_goes_on_when_its_browser_goes_away(home: House, it: Browser) -> None:
    await it.log_in()
    thread = await home.launch("coder0")
    token = (await it.get("/")).field("csrf")
    gone = asyncio.create_task(it.post("/commands/stop", {"csrf": token, "a.name": "coder0"}))
    async with asyncio.timeout(60):
        while (await home.row("coder0")).wanted == "running":
            await asyncio.sleep(0.001)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await home.heard(thread, "Stopped")


async def test_what_cannot_be_undone_is_asked_first(home: House, it: Browser) -> None:
    await it.log_in()
    await home.launch("coder0")
    page = await it.run("kill", {"name": "coder0"})
    assert "cannot be undone" in page.text
    assert await audited(home, "kill") == []
    done = await it.run("kill", {"name": "coder0"}, confirmed=page.field("confirmed"), run=page.field("run"))
    assert "kill: done" in done.text
    assert [row.identity for row in await audited(home, "kill")] == ["memory:@ana"]


async def test_what_a_person_must_know_is_on_the_page_that_asks(home: House, it: Browser) -> None:
    await it.log_in()
    refused = await it.run("merge", {"name": "coder0"})
    assert refused.status == 422
    assert 'role="alert"' in refused.text
    table = CommandTable()
    for each in TABLE:
        table.add(each)

    async def looked_at(services: CommandServices, arguments: dict[str, object], say: object) -> Checked:
        return Checked(note="It has **seven** rungs.", arguments={"commit": "abc123"})

    @table.command("climb", permission=Permission.VIEWER, help_section="x", confirm=True, check=looked_at, informs=True)
    async def climb(ctx: Context[CommandServices], ladder: str, *, commit: str | None = None) -> Reply:
        """Climb."""
        return Reply(f"climbed {ladder} at {commit}")

    home.orchestrator.services.table = table
    page = await it.run("climb", {"ladder": "north"})
    assert "It has <strong>seven</strong> rungs." in page.text
    assert page.field("a.ladder") == "north"
    assert page.field("a.commit") == "abc123", "only what the person was told is done"
    assert page.field("confirmed") == "yes"


async def test_wrong_arguments_are_explained_at_the_form(it: Browser) -> None:
    await it.log_in()
    wrong = await it.run("tail", {"name": "coder0", "entries": "many"})
    assert (wrong.status, "entries" in wrong.text.lower()) == (400, True)
    assert 'value="many"' in wrong.text
    assert (await it.run("tail", {"name": "coder0", "surprise": "1"})).status == 400
    assert (await it.run("tail", {})).status == 400


async def test_every_command_has_a_form_with_its_arguments(it: Browser) -> None:
    await it.log_in()
    listed = (await it.get("/commands")).text
    assert len(TABLE) > 60
    for command in TABLE:
        path = forms.path_of(command)
        assert (f'href="{path}"' in listed) == ("web" in command.doors)
        page = await it.get(path)
        assert page.status == 200, command.name
        for parameter in command.parameters:
            assert (f'name="a.{parameter.name}"' in page.text) == ("web" in parameter.doors), command.name


async def test_commands_that_only_show_something_answer_here(it: Browser) -> None:
    await it.log_in(control=False)
    for command in TABLE:
        if not command.effects and not any(each.required for each in command.parameters):
            page = await it.run(command.name)
            # One that is refused, such as a diff without a name, keeps its form.
            assert (page.status, f"<h1>{command.name}: " in page.text) in ((200, True), (422, False)), command.name
            assert f"<h1>{command.name}" in page.text


async def test_what_was_typed_stays_when_a_command_refuses_it(home: House, it: Browser) -> None:
    await it.log_in()
    page = await it.run("budget set", {"scope": "host", "limit": "zwölf", "policy": "freeze"})
    assert page.status == 422
    assert "is no limit. Write tokens, like 500k" in page.text
    assert page.field("a.scope") == "host"
    again = await it.run("budget set", {"scope": page.field("a.scope"), "limit": "2M"}, run=page.field("run"))
    assert "budget set: done" in again.text


async def test_a_browser_sees_no_private_conversation_of_a_terminal(home: House, it: Browser) -> None:
    await it.log_in()
    refused = await it.run("sessions", {"runtime": "claude"})
    assert "cannot be given in a browser. Give it in a shell," in refused.text
    refused = await it.run("launch", {"name": "coder9", "runtime": "sim", "sandbox": "none", "session": "x"})
    assert "cannot be given in a browser. Give it in a shell," in refused.text
