"""What a forge, and whoever else reaches the port, gets from the webhooks' listener."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO

import aiohttp
import pytest

from core.errors import RegisterAway
from forge.model.references import RepositoryName
from forge.webhooks.event import ForgeEvent
from forge.webhooks.group_commit import MOST_AT_ONCE as MOST_WAITING
from forge.webhooks.group_commit import GroupCommit
from forge.webhooks.listener import LARGEST_BODY, MOST_CONNECTIONS, MOST_HELD, WebhookError, WebhookListener

SECRET = "one-secret-of-the-webhook"
ISSUE = {"action": "label_updated", "repository": {"full_name": "acme/app"}, "issue": {"number": 17, "title": "x"}}
EVENT = ForgeEvent("d-1", "issues", RepositoryName("acme", "app"), 17, None)


@dataclass
class Register:
    """Keeps what is written; can be slow or away."""

    events: list[ForgeEvent] = field(default_factory=list)
    groups: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_write: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def write(self, events: Sequence[ForgeEvent]) -> None:
        self.asked.set()
        await self.may_write.wait()
        if self.error is not None:
            raise self.error
        self.groups += 1
        self.events += events


@pytest.fixture
def register() -> Register:
    register = Register()
    register.may_write.set()
    return register


@pytest.fixture
async def listener(register: Register) -> AsyncIterator[WebhookListener]:
    listener = WebhookListener("gitea", SECRET, {RepositoryName("acme", "app")}, register.write)
    await listener.start()
    yield listener
    await listener.stop()


def signed(body: bytes, *, secret: str = SECRET, event: str = "issues", delivery: str = "d-1") -> dict[str, str]:
    return {
        "X-Gitea-Event": event,
        "X-Gitea-Delivery": delivery,
        "X-Gitea-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


async def post(
    listener: WebhookListener, body: bytes | BytesIO, headers: dict[str, str], path: str = "/webhook"
) -> int:
    host, port = listener.address
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://{host}:{port}{path}", data=body, headers=headers) as answer,
    ):
        return answer.status


def raw(body: bytes, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


async def answer_to(listener: WebhookListener, request: bytes) -> bytes:
    """Return the status of the answer on a connection of its own; empty if it was closed without one."""
    try:
        reader, writer = await asyncio.open_connection(*listener.address)
        try:
            writer.write(request)
            return (await reader.readline())[9:12]
        finally:
            writer.close()
    except ConnectionError:
        return b""


async def test_a_signed_event_is_durable_before_the_answer(listener: WebhookListener, register: Register) -> None:
    body = json.dumps(ISSUE).encode()
    assert await post(listener, body, signed(body)) == 200
    assert register.events == [EVENT]


async def test_nothing_unsigned_is_read(listener: WebhookListener, register: Register) -> None:
    body = json.dumps(ISSUE).encode()
    forged = signed(body, secret="another-secret-of-theirs")
    empty = signed(body, secret="")
    other = signed(b"{}")
    for headers in (
        forged,
        empty,
        other,
        signed(body) | {"X-Gitea-Signature": ""},
        signed(body) | {"X-Gitea-Signature": "\xe9"},
    ):
        assert await post(listener, body, headers) == 401
    assert await post(listener, b"{not json", signed(b"something else")) == 401
    assert register.events == []
    assert listener.counts.outcomes == {"unsigned": 6}


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b"", "issues"),
        (b"[]", "issues"),
        (b"\xff\xfe", "issues"),
        (b"[" * 100_000, "issues"),
        (json.dumps(ISSUE | {"repository": {"full_name": "../etc/passwd"}}).encode(), "issues"),
        (json.dumps(ISSUE | {"repository": None}).encode(), "issues"),
        (json.dumps(ISSUE | {"issue": {"number": "17"}}).encode(), "issues"),
        (json.dumps(ISSUE | {"issue": {"number": -1}}).encode(), "issues"),
        (json.dumps(ISSUE | {"issue": {"number": 10**30}}).encode(), "issues"),
        (json.dumps({"repository": {"full_name": "acme/app"}}).encode(), "pull_request"),
        (json.dumps({"repository": {"full_name": "acme/app"}, "sha": "HEAD"}).encode(), "status"),
    ],
)
async def test_what_is_no_event_is_shown_without_its_words(
    listener: WebhookListener, register: Register, body: bytes, event: str
) -> None:
    assert await post(listener, body, signed(body, event=event)) == 400
    assert register.events == []
    assert listener.counts.last_malformed is not None
    assert "passwd" not in listener.counts.last_malformed


@pytest.mark.parametrize("headers", [{"X-Gitea-Event": ""}, {"X-Gitea-Delivery": ""}, {"X-Gitea-Delivery": "a b"}])
async def test_a_delivery_without_its_headers_is_malformed(listener: WebhookListener, headers: dict[str, str]) -> None:
    body = json.dumps(ISSUE).encode()
    assert await post(listener, body, signed(body) | headers) == 400


async def test_other_events_and_repositories_are_counted_only(listener: WebhookListener, register: Register) -> None:
    body = json.dumps(ISSUE | {"repository": {"full_name": "acme/other"}}).encode()
    assert await post(listener, body, signed(body)) == 200
    assert await post(listener, b"{}", signed(b"{}", event="fork")) == 200
    assert register.events == []
    assert listener.counts.outcomes == {"elsewhere": 1, "unsupported": 1}


async def test_a_check_names_its_commit(listener: WebhookListener, register: Register) -> None:
    sha = "a" * 40
    body = json.dumps({"repository": {"full_name": "acme/app"}, "sha": sha, "state": "failure"}).encode()
    assert await post(listener, body, signed(body, event="status")) == 200
    assert [(each.number, each.sha, each.reference) for each in register.events] == [(None, sha, None)]


async def test_a_body_is_bounded(listener: WebhookListener, register: Register) -> None:
    body = b"x" * (LARGEST_BODY + 1)
    assert await post(listener, BytesIO(body), signed(body)) == 413
    assert register.events == []


async def test_nothing_else_is_there(listener: WebhookListener) -> None:
    host, port = listener.address
    async with aiohttp.ClientSession() as http:
        for method, path in (("GET", "/"), ("GET", "/v1/agents"), ("GET", "/metrics"), ("POST", "/v1/commands/stop")):
            async with http.request(method, f"http://{host}:{port}{path}") as answer:
                assert answer.status == 404
        async with http.get(f"http://{host}:{port}/webhook") as answer:
            assert answer.status == 405


async def test_deliveries_at_once_share_commits(listener: WebhookListener, register: Register) -> None:
    register.may_write.clear()
    body = json.dumps(ISSUE).encode()
    host, port = listener.address
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def deliver(number: int) -> int:
            headers = signed(body, delivery=f"d-{number}")
            async with http.post(f"http://{host}:{port}/webhook", data=body, headers=headers) as answer:
                return answer.status

        all_of_them = asyncio.gather(*(deliver(number) for number in range(50)))
        await register.asked.wait()
        register.may_write.set()
        assert set(await all_of_them) == {200}
    assert {each.delivery for each in register.events} == {f"d-{number}" for number in range(50)}
    assert register.groups < 50


async def test_a_register_that_is_away_is_told_to_the_forge(listener: WebhookListener, register: Register) -> None:
    body = json.dumps(ISSUE).encode()
    register.error = RegisterAway()
    assert await post(listener, body, signed(body)) == 503
    register.error = None
    assert await post(listener, body, signed(body)) == 200
    assert len(register.events) == 1


async def test_a_slow_register_does_not_keep_the_forge_waiting(listener: WebhookListener, register: Register) -> None:
    body = json.dumps(ISSUE).encode()
    register.may_write.clear()
    assert await post(listener, body, signed(body)) == 503
    register.may_write.set()


async def test_no_more_events_wait_for_a_slow_register_than_are_written_at_once(
    register: Register, listener: WebhookListener
) -> None:
    body = json.dumps(ISSUE).encode()
    register.may_write.clear()
    listener.group = group = GroupCommit(register.write)

    def gives_up(number: int) -> asyncio.Task[None]:
        return asyncio.create_task(group.add(replace(EVENT, delivery=f"d-{number}")))

    waiting = [gives_up(0)]
    await register.asked.wait()
    waiting += [gives_up(number) for number in range(1, MOST_WAITING + 1)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert await post(listener, body, signed(body)) == 503
    assert listener.counts.outcomes == {"busy": 1}
    register.may_write.set()
    await group.close()
    assert await post(listener, body, signed(body, delivery="the-next")) == 200
    assert len(register.events) == MOST_WAITING + 2


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have a connection with itself for each of many deliveries."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4_096:
        pytest.skip(f"this user may open {hard} files; both ends of 2,000 connections are more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_flood_of_forged_deliveries_is_refused_and_leaves_nothing(
    listener: WebhookListener, register: Register
) -> None:
    body = json.dumps(ISSUE).encode()
    forged = raw(body, signed(body, secret="another-secret-of-theirs"))
    answers = Counter(await asyncio.gather(*(answer_to(listener, forged) for _ in range(2_000))))
    assert set(answers) <= {b"401", b"503", b""}
    assert listener.counts.outcomes["unsigned"] + listener.counts.outcomes["busy"] == 2_000
    assert await post(listener, body, signed(body)) == 200
    assert [event.delivery for event in register.events] == ["d-1"]


async def test_no_more_connections_are_kept_than_leave_files_for_others(listener: WebhookListener) -> None:
    host, port = listener.address
    opened = [await asyncio.open_connection(host, port) for _ in range(MOST_CONNECTIONS + 20)]
    await asyncio.gather(*(reader.read() for reader, _ in opened[MOST_CONNECTIONS:]))
    body = json.dumps(ISSUE).encode()
    reader, writer = opened[MOST_CONNECTIONS - 1]
    writer.write(raw(body, signed(body)))
    assert (await reader.readline())[9:12] == b"200"
    assert listener.counts.outcomes == {"busy": 20, "taken": 1}
    for _, writer in opened:
        writer.close()


async def test_deliveries_that_stay_incomplete_hold_bounded_memory(listener: WebhookListener) -> None:
    part = b"x" * (LARGEST_BODY // 2)
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST_BODY}\r\n\r\n".encode()
    slow = [asyncio.create_task(answer_to(listener, head + part)) for _ in range(MOST_HELD // len(part) + 8)]
    done, _ = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {b"503"}
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)


@pytest.mark.parametrize("secret", ["", "short", "x" * 15])
async def test_a_secret_that_can_be_guessed_is_refused(register: Register, secret: str) -> None:
    with pytest.raises(WebhookError, match="at least 16"):
        WebhookListener("gitea", secret, (), register.write)


async def test_a_port_in_use_is_named(listener: WebhookListener, register: Register) -> None:
    second = WebhookListener("gitea", SECRET, (), register.write, port=listener.address[1])
    with pytest.raises(WebhookError, match="Change `forge: webhooks: listen`"):
        await second.start()


async def test_github_signs_in_its_own_header(register: Register) -> None:
    listener = WebhookListener("github", SECRET, {RepositoryName("acme", "app")}, register.write)
    await listener.start()
    try:
        body = json.dumps(ISSUE).encode()
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": "d-1", "X-Hub-Signature-256": signature}
        assert await post(listener, body, headers) == 200
        assert await post(listener, body, signed(body)) == 401
        assert len(register.events) == 1
    finally:
        await listener.stop()
