"""The forge for tests: git over HTTP, pushes that are declined, webhooks that get lost, and what it is checked against.

End-to-end tests depend on it, so what they depend on is shown here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import TypeAdapter

from tests.forge.conftest import SHOP
from tests.forge.forge_server.api_description import gitea_description, github_model, require_gitea_swagger
from tests.forge.forge_server.bare_repository import QUOTA
from tests.forge.forge_server.server import ForgeServer

SECRET = "a secret of a webhook"


@dataclass
class Receiver:
    """Keeps the events that it gets."""

    url: str
    events: list[tuple[dict[str, str], bytes]]
    status: int = 204

    def ids(self, header: str = "X-Gitea-Delivery") -> list[str]:
        return [headers[header] for headers, _ in self.events]

    def payloads(self) -> list[Any]:
        return [json.loads(body) for _, body in self.events]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async def take(request: web.Request) -> web.Response:
        found.events.append((dict(request.headers), await request.read()))
        return web.Response(status=found.status)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found = Receiver(f"http://{host}:{port}/hook", [])
    yield found
    await runner.cleanup()


async def git(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run git as an agent's machine does; return its status and what it said."""
    process = await asyncio.create_subprocess_exec(
        "git",
        *("-c", "user.name=muster", "-c", "user.email=muster@forge.example"),
        *arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def clone(forge: ForgeServer, folder: Path, token: str) -> Path:
    url = f"{forge.url}/{SHOP}.git".replace("://", f"://muster:{token}@")
    assert (await git(folder, "clone", "--quiet", url, "shop"))[0] == 0
    return folder / "shop"


async def commit(work: Path, branch: str, content: str) -> None:
    (work / "shop.py").write_text(content)
    assert (await git(work, "checkout", "--quiet", "-B", branch))[0] == 0
    assert (await git(work, "commit", "--quiet", "--all", "--message", "Change."))[0] == 0


async def test_a_branch_is_pushed_over_http_and_its_pull_request_follows(forge: ForgeServer, tmp_path: Path) -> None:
    work = await clone(forge, tmp_path, forge.add_token("muster"))
    await commit(work, "fix", "one\n")
    assert (await git(work, "push", "--quiet", "origin", "fix"))[0] == 0
    sha = forge.repository(SHOP).git.sha("refs/heads/fix")
    assert forge.git.pushes == [("muster", SHOP, {"refs/heads/fix": (None, sha)})]
    number = forge.open_pull(SHOP, title="Fix", body="", head="fix", base="main", by="muster").number
    await commit(work, "fix", "two\n")
    assert (await git(work, "push", "--quiet", "origin", "fix"))[0] == 0
    assert forge.pull(SHOP, number).head_sha == forge.repository(SHOP).git.sha("refs/heads/fix") != sha


async def test_pushes_are_declined_for_real(forge: ForgeServer, tmp_path: Path) -> None:
    work = await clone(forge, tmp_path, forge.add_token("muster"))
    await commit(work, "fix", "one\n")
    repository = forge.repository(SHOP)

    repository.git.decline_pushes(QUOTA)
    status, said = await git(work, "push", "origin", "fix")
    assert status != 0
    assert "remote: Gitea: quota exceeded" in said
    repository.git.decline_pushes(None)

    forge.protect(SHOP, "main", "release/*")
    for branch in ("main", "release/1"):
        status, said = await git(work, "push", "origin", f"fix:{branch}")
        assert status != 0
        assert f"Not allowed to push to protected branch {branch}" in said

    forge.git.before_next_push(lambda name: forge.commit(name, "fix", {"other.py": "1\n"}))
    status, said = await git(work, "push", "origin", "fix")
    assert status != 0
    assert "rejected" in said
    assert all("refs/heads/main" not in moved for _, _, moved in forge.git.pushes)


async def test_a_push_fails_or_is_done_without_a_word(forge: ForgeServer, tmp_path: Path) -> None:
    work = await clone(forge, tmp_path, forge.add_token("muster"))
    await commit(work, "fix", "one\n")
    forge.faults.answer(502, path="git-receive-pack", body=b"Bad gateway")
    status, said = await git(work, "push", "origin", "fix")
    assert status != 0
    assert "502" in said
    assert forge.git.pushes == []
    forge.faults.lose_response(path="git-receive-pack", method="POST", times=None)
    assert (await git(work, "push", "origin", "fix"))[0] != 0
    # git's HTTP library may ask once more.
    assert list(forge.git.pushes[0][2]) == ["refs/heads/fix"]


async def test_strangers_cannot_push_and_revoked_tokens_cannot_read(forge: ForgeServer, tmp_path: Path) -> None:
    work = await clone(forge, tmp_path, forge.add_token("eve"))
    await commit(work, "evil", "evil\n")
    status, said = await git(work, "push", "origin", "evil")
    assert status != 0
    assert "403" in said
    forge.add_repository("acme/secret", is_private=True)
    url = f"{forge.url}/acme/secret.git"
    assert (await git(tmp_path, "clone", url, "none"))[0] != 0
    forge.revoke_tokens()
    assert (await git(work, "push", "origin", "evil"))[0] != 0


async def test_events_of_gitea_are_signed_and_do_not_tell_what_changed(forge: ForgeServer, receiver: Receiver) -> None:
    forge.add_webhook(SHOP, receiver.url, secret=SECRET)
    number = forge.add_issue(SHOP, "It fails", author="eve", labels=("bug",))
    forge.label(SHOP, number, "muster:coder", by="ana")
    forge.assign(SHOP, number, "ana", by="ana")
    forge.comment(SHOP, number, "Please.", by="ana")
    await forge.webhooks.idle()
    for headers, body in receiver.events:
        assert headers["X-Gitea-Signature"] == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert [(headers["X-Gitea-Event"], headers["X-Gitea-Event-Type"]) for headers, _ in receiver.events] == [
        ("issues", "issues"),
        ("issues", "issue_label"),
        ("issues", "issue_assign"),
        ("issue_comment", "issue_comment"),
    ]
    payloads = receiver.payloads()
    assert [payload["action"] for payload in payloads] == ["opened", "label_updated", "assigned", "created"]
    assert "label" not in payloads[1]
    assert [label["name"] for label in payloads[1]["issue"]["labels"]] == ["bug", "muster:coder"]
    assert (payloads[3]["is_pull"], payloads[3]["comment"]["body"]) == (False, "Please.")
    assert payloads[3]["sender"]["login"] == "ana"


async def test_a_comment_on_a_pull_request_says_so(forge: ForgeServer, receiver: Receiver) -> None:
    forge.commit(SHOP, "fix", {"a": "1"})
    number = forge.open_pull(SHOP, title="Fix", body="", head="fix", base="main", by="muster").number
    forge.add_webhook(SHOP, receiver.url, secret=SECRET)
    forge.comment(SHOP, number, "Why?", by="ana")
    forge.commit(SHOP, "fix", {"a": "2"})
    await forge.webhooks.idle()
    (comment, _), (pushed, _) = receiver.events
    assert (comment["X-Gitea-Event"], comment["X-Gitea-Event-Type"]) == ("issue_comment", "pull_request_comment")
    assert pushed["X-Gitea-Event-Type"] == "pull_request_sync"
    assert [payload["action"] for payload in receiver.payloads()] == ["created", "synchronized"]
    assert receiver.payloads()[0]["is_pull"] is True


async def test_events_of_github_are_as_github_describes_them(forge: ForgeServer, receiver: Receiver) -> None:
    forge.add_webhook(SHOP, receiver.url, secret=SECRET, kind="github")
    number = forge.add_issue(SHOP, "It fails", author="eve")
    forge.label(SHOP, number, "muster:coder", by="ana")
    forge.unlabel(SHOP, number, "muster:coder", by="ana")
    forge.assign(SHOP, number, "ana", by="ana")
    forge.comment(SHOP, number, "Please.", by="ana")
    forge.close_item(SHOP, number, by="ana")
    await forge.webhooks.idle()
    found = []
    for headers, body in receiver.events:
        signed = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Hub-Signature-256"] == f"sha256={signed}"
        assert "X-Gitea-Event" not in headers
        found.append((headers["X-GitHub-Event"], json.loads(body)["action"]))
    assert found == [
        *(("issues", action) for action in ("opened", "labeled", "unlabeled", "assigned")),
        *(("issue_comment", "created"), ("issues", "closed")),
    ]
    assert receiver.payloads()[1]["label"]["name"] == "muster:coder"
    wanted = {
        ("issues", "opened"): "WebhookIssuesOpened",
        ("issues", "labeled"): "WebhookIssuesLabeled",
        ("issues", "unlabeled"): "WebhookIssuesUnlabeled",
        ("issues", "assigned"): "WebhookIssuesAssigned",
        ("issues", "closed"): "WebhookIssuesClosed",
        ("issue_comment", "created"): "WebhookIssueCommentCreated",
    }
    for kind, payload in zip(found, receiver.payloads(), strict=True):
        TypeAdapter(github_model(wanted[kind])).validate_python(payload)


async def test_events_get_lost_doubled_and_reordered(forge: ForgeServer, receiver: Receiver) -> None:
    forge.add_webhook(SHOP, receiver.url, secret=SECRET)
    number = forge.add_issue(SHOP, "It fails", author="eve")
    forge.webhooks.lose()
    forge.comment(SHOP, number, "lost", by="ana")
    forge.webhooks.double()
    forge.comment(SHOP, number, "doubled", by="ana")
    forge.webhooks.hold()
    forge.comment(SHOP, number, "first", by="ana")
    forge.comment(SHOP, number, "second", by="ana")
    await forge.webhooks.idle()
    forge.webhooks.release(reverse=True)
    await forge.webhooks.idle()
    bodies = [payload.get("comment", {}).get("body") for payload in receiver.payloads()]
    assert bodies == [None, "doubled", "doubled", "second", "first"]
    ids = receiver.ids()
    assert (ids[1] == ids[2], len(set(ids))) == (True, 4)
    forge.webhooks.redeliver(forge.webhooks.deliveries[1])
    await forge.webhooks.idle()
    assert receiver.payloads()[-1]["comment"]["body"] == "lost"


async def test_an_event_can_be_forged(forge: ForgeServer, receiver: Receiver) -> None:
    receiver.status = 403
    assert await forge.webhooks.forge(receiver.url, "issues", {"action": "opened"}, secret="wrong") == 403
    await forge.webhooks.forge(receiver.url, "issues", b"{", secret=None)
    assert "X-Gitea-Signature" in receiver.events[0][0]
    assert "X-Gitea-Signature" not in receiver.events[1][0]


async def test_a_receiver_that_is_away_is_noted(forge: ForgeServer) -> None:
    forge.add_webhook(SHOP, "http://127.0.0.1:9/hook", secret=SECRET)
    forge.add_issue(SHOP, "It fails", author="eve")
    await forge.webhooks.idle()
    assert [attempt.status for attempt in forge.webhooks.attempts] == [None]


async def broken_requests(api: str, login_scheme: str) -> None:
    async with ForgeServer() as forge:
        forge.add_repository(SHOP)
        number = forge.add_issue(SHOP, "It fails", author="ana")
        headers = {"Authorization": f"{login_scheme} {forge.add_token('acme')}"}
        url = f"{forge.url}/{api}/repos/{SHOP}/issues"
        async with aiohttp.ClientSession(headers=headers) as session:
            await session.get(f"{url}?colour=red")
            await session.post(f"{url}/{number}/comments", json={"body": "x", "colour": "red"})


async def test_what_does_not_fit_giteas_description_is_an_error() -> None:
    require_gitea_swagger()
    with pytest.raises(AssertionError, match=r"no parameter 'colour'(?s:.)*Additional properties"):
        await broken_requests("api/v1", "token")


async def test_what_does_not_fit_githubs_description_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no field 'colour'"):
        await broken_requests("api/v3", "Bearer")


def test_giteas_description_knows_what_is_wrong() -> None:
    require_gitea_swagger()
    description = gitea_description()
    assert description is not None
    path = "/repos/{owner}/{repo}/issues"
    assert description.request_problems("GET", path, {"state": "open", "limit": "50"}, None) == []
    assert description.request_problems("GET", path, {"state": "opened"}, None) != []
    assert description.request_problems("GET", path, {"page": "x"}, None) != []
    assert description.response_problems("GET", path, 200, [{"id": 1, "title": None}]) == []
    assert description.response_problems("GET", path, 200, [{"id": "1"}]) != []
    assert description.response_problems("GET", path, 200, [{"colour": "red"}]) != []
    assert description.response_problems("GET", path, 204, None) != []
