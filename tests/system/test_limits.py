"""A homeserver with its default limits, 0.2 messages a second and ten at once: what matters comes first, all comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from connectors.contract.messages import Priority
from fleet.sim.provider.server import Provider
from tests.operator_client import body
from tests.synapse import DEFAULT, Limits, Synapse
from tests.system.matrix_installation import installation
from tests.system.operator_record import FINISHED, Books
from tests.system.scenarios import STANDING, Stage

pytestmark = pytest.mark.synapse

#: Seconds in which a message that was under way already may still get in front.
UNDER_WAY = 1.0


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(messages_per_second=1.0, messages_burst=10), id="short", marks=pytest.mark.slow),
        pytest.param(DEFAULT, id="default", marks=pytest.mark.soak),
    ],
)
async def test_questions_and_replies_go_first_and_nothing_is_lost(
    tmp_path: Path, private_synapse: Callable[..., Synapse], models: Provider, limits: Limits
) -> None:
    synapse = private_synapse(limits=limits)
    async with installation(tmp_path, synapse, models) as home:
        await _without_limits(synapse, home.ana.user_id)
        await home.start()
        await home.joined()
        stage = Stage(home, Books(home))
        await stage.set_up()
        busy = await stage.books.message(
            stage.thread, "[[slow: 0.2]][[stream: 25 word]][[run: echo x >> proof]][[stream: 20 more]]"
        )
        await home.heard(lambda event: "word" in body(event) and event["sender"] == home.bot.user_id)
        for _ in range(3):
            await stage.books.ask("!ps")
        assert await stage.approved(busy, "proof") == FINISHED
        await stage.books.ask(f"!stop {STANDING}")
        await home.nobody_left()
        await stage.books.balance()
        with stage.books.register() as register:
            sent = register.execute(
                "SELECT key, priority, created_at, sent_at, content FROM outbox WHERE state = 'sent' ORDER BY sent_at"
            ).fetchall()
    for key, priority, created, at, _ in sent:
        print(f"{at - sent[0][3]:6.1f} s, after {at - created:5.1f} s: {Priority(priority).name:9} {key}")
        if priority > Priority.REPLY or key.startswith("j/"):
            # What an agent host tells waits for what its turn says in the same thread.
            continue
        overtaken = [
            other
            for other, lower, _, when, _ in sent
            if lower > Priority.REPLY and created + UNDER_WAY < when < at - UNDER_WAY
        ]
        assert overtaken == [], f"{key} waited {at - created:.1f} s while these went out"
    edits = [json.loads(content) for key, _, _, _, content in sent if "said" in key]
    assert len(edits) < 12, "progress adapts to what is left"


async def _without_limits(synapse: Synapse, user_id: str) -> None:
    """Lift the limits of a person, so that only the bot has them."""
    admin = await synapse.register(prefix="root", admin=True)
    url = f"{synapse.url}/_synapse/admin/v1/users/{user_id}/override_ratelimit"
    headers = {"Authorization": f"Bearer {admin.access_token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(url, json={"messages_per_second": 0, "burst_count": 0}) as response,
    ):
        assert response.status == 200, await response.text()
