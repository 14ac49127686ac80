"""A push is encrypted for its browser, signed, and sent where it may be, once."""

from __future__ import annotations

import base64
import json
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.interfaces.web.push.sender import PAYLOAD, PushResult, PushSender, PushUnavailable, contact_for
from core.errors import MusterError
from tests.bot.interfaces.web.push.push_service import PushService, push_service

NOW = 1_800_000_000.0


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    async with push_service() as made:
        yield made


@pytest.fixture
async def sender(service: PushService, tmp_path: Path) -> AsyncIterator[PushSender]:
    made = PushSender(tmp_path / "key.pem", [service.origin], "mailto:ana@example.org", lambda: NOW)
    await made.open()
    yield made
    await made.close()


async def test_a_push_says_that_something_waits_and_nothing_else(service: PushService, sender: PushSender) -> None:
    assert await sender.send(service.subscription()) == "delivered"
    [push] = service.received
    assert service.read(push) == PAYLOAD == b'{"kind": "waiting"}'
    assert (push.headers["TTL"], push.headers["Topic"], push.path) == ("600", "waiting", "/push/phone")
    assert "Cookie" not in push.headers
    token, _, key = push.headers["Authorization"].removeprefix("vapid t=").partition(",k=")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims == {"aud": service.origin, "exp": int(NOW) + 3_600, "sub": "mailto:ana@example.org"}
    assert key.rstrip("=") == sender.public_key


async def test_the_key_is_made_once_and_is_this_users_alone(sender: PushSender) -> None:
    assert stat.S_IMODE(sender.key_file.stat().st_mode) == 0o600
    again = PushSender(sender.key_file, [], "", lambda: NOW)
    await again.open()
    assert again.public_key == sender.public_key
    await again.close()
    sender.key_file.write_text("no key")
    with pytest.raises(MusterError, match="Remove the file"):
        await PushSender(sender.key_file, [], "", lambda: NOW).open()


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "delivered"), (404, "gone"), (410, "gone"), (302, "refused"), (307, "refused"), (400, "refused"),
     (413, "refused"), (429, "failed"), (503, "failed")],
)  # fmt: skip
async def test_what_a_service_answers_decides_what_is_next(
    service: PushService, sender: PushSender, status: int, result: PushResult
) -> None:
    service.status = status
    assert await sender.send(service.subscription()) == result
    assert len(service.received) == 1, "a redirect was followed"


async def test_a_service_that_does_not_answer_is_given_up(service: PushService, tmp_path: Path) -> None:
    hurried = PushSender(tmp_path / "key.pem", [service.origin], "mailto:a@b.example", lambda: NOW, send_limit_s=0.2)
    await hurried.open()
    service.hangs = True
    assert await hurried.send(service.subscription()) == "failed"
    await hurried.close()


async def test_a_service_that_left_the_list_hears_nothing(service: PushService, sender: PushSender) -> None:
    sender.services = ["fcm.googleapis.com"]
    assert await sender.send(service.subscription()) == "gone"
    assert service.received == []


async def test_without_the_library_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywebpush", None)
    with pytest.raises(PushUnavailable, match=r"uv tool install 'muster-fleet\[webpush\]'"):
        await PushSender(tmp_path / "key.pem", [], "", lambda: NOW).open()
    assert not (tmp_path / "key.pem").exists()


def test_a_push_service_is_told_whom_to_ask() -> None:
    assert contact_for(None, "https://muster.example.org:8443") == "https://muster.example.org"
    assert contact_for(None, "http://127.0.0.1:8475") == "https://localhost"
    assert contact_for("mailto:ana@example.org", "https://muster.example.org") == "mailto:ana@example.org"
