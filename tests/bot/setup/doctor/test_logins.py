"""The doctor asks whether the servers still know the log-ins of the connectors, says what mends them, shows none."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bot.config import loader
from bot.config.paths import Paths
from bot.setup.doctor import DoctorFinding, logins
from connectors.matrix.connector import MatrixConnector
from connectors.matrix.settings import MatrixSettings
from tests.connectors.discord.server import serving
from tests.connectors.matrix.conftest import AgentSupervisor, healthy
from tests.synapse import Account, Synapse

GUILD, CHANNEL = "123456789012345678", "223456789012345678"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    made = Paths.of({"MUSTER_HOME": str(tmp_path)})
    made.prepare()
    return made


async def examined(paths: Paths, **environ: str) -> list[DoctorFinding]:
    """What is found, in a thread, as the doctor waits for answers."""
    found = await asyncio.to_thread(lambda: list(logins.examine(loader.check(paths), paths, environ)))
    for each in found:
        assert not [secret for secret in environ.values() if secret in str(each)], "no secret shows"
    return found


def matrix(paths: Paths, account: Account, *, homeserver: str = "", user: str = "", more: str = "") -> None:
    paths.muster_yaml.write_text(
        f"connectors:\n  matrix:\n    homeserver: {homeserver or account.homeserver}\n"
        f"    user: '{user or account.user_id}'\n    access_token: env:T\n{more}"
    )


async def test_a_token_that_was_revoked_is_told_and_what_mends_it(paths: Paths, synapse: Synapse) -> None:
    account = await synapse.register(prefix="bot")
    matrix(paths, account)
    (well,) = await examined(paths, T=account.access_token)
    assert (well.name, well.state) == ("connector matrix log-in", "ok")
    assert account.user_id in well.found

    matrix(paths, account, user="@somebody:else.example")
    (other,) = await examined(paths, T=account.access_token)
    assert other.state == "wrong"
    assert f"belongs to {account.user_id}, and muster.yaml says @somebody:else.example" in other.found

    matrix(paths, account)
    async with ClientSession() as session:
        address = f"{account.homeserver}/_matrix/client/v3/logout"
        async with session.post(address, headers={"Authorization": f"Bearer {account.access_token}"}) as answer:
            assert answer.status == 200
    (revoked,) = await examined(paths, T=account.access_token)
    assert (revoked.state, "M_UNKNOWN_TOKEN" in revoked.found) == ("wrong", True)
    assert "put the new token where env:T points" in revoked.way


async def test_keys_of_a_device_that_are_gone_are_told_before_anybody_starts(paths: Paths, synapse: Synapse) -> None:
    account = await synapse.register(prefix="bot")
    matrix(paths, account, more="    encryption: allowed\n")
    settings = loader.check(paths).settings
    assert settings is not None
    block = settings.connectors[0].settings
    assert isinstance(block, MatrixSettings)
    connector = MatrixConnector(
        "matrix",
        block,
        paths.connector_folder("matrix"),
        keys=paths.keys_folder("matrix"),
    )
    assert [each.state for each in await examined(paths, T=account.access_token)] == ["ok"], "it never had any"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("T", account.access_token)
        connector.subscribe(AgentSupervisor())
        running = asyncio.create_task(connector.start(None))
        try:
            await healthy(connector, lambda health: health.reachable is True)
        finally:
            running.cancel()
            await asyncio.wait([running])
            await connector.stop()
    assert [each.state for each in await examined(paths, T=account.access_token)] == ["ok"]
    shutil.rmtree(paths.keys_folder("matrix"))
    _, lost = await examined(paths, T=account.access_token)
    assert (lost.name, lost.state) == ("connector matrix keys", "wrong")
    assert "are lost" in lost.found
    assert "put the new token where env:T points" in lost.way
    assert not paths.keys_folder("matrix").exists(), "it changes nothing"


async def test_a_server_that_does_not_answer_says_nothing_of_the_token(paths: Paths) -> None:
    paths.muster_yaml.write_text(
        "connectors:\n"
        "  matrix: {homeserver: 'http://127.0.0.1:1', user: '@m:x.example', access_token: 'env:T'}\n"
        f"  discord: {{token: 'env:D', guild: '{GUILD}', channel: '{CHANNEL}', api: 'http://127.0.0.1:1'}}\n"
    )
    found = await examined(paths, T="a-secret-of-matrix", D="a-secret-of-discord")
    assert [(each.name, each.state) for each in found] == [
        ("connector matrix log-in", "unknown"),
        ("connector discord log-in", "unknown"),
    ]
    assert all("log-in is still valid: http://127.0.0.1:1 does not answer" in each.found for each in found)
    assert await examined(paths) == [], "that a secret is missing is said of the secret"
    broken = await examined(paths, T="a-secret\nof-matrix", D="ein-Schlüssel-€")
    assert all("characters that no token has" in each.found for each in broken)


async def test_a_server_that_never_answers_is_not_waited_for_long(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        paths.muster_yaml.write_text(
            f"connectors:\n  matrix: {{homeserver: '{address}', user: '@m:x.example', access_token: 'env:T'}}\n"
        )
        (found,) = await examined(paths, T="a-secret-of-matrix")
    assert (found.state, "does not answer (TimeoutError)" in found.found) == ("unknown", True)


async def test_a_bots_token_that_was_reset_is_told_and_what_mends_it(paths: Paths) -> None:
    async with serving() as (world, api):
        paths.muster_yaml.write_text(
            f"connectors:\n  discord: {{token: 'env:D', guild: '{GUILD}', channel: '{CHANNEL}', api: '{api}'}}\n"
        )
        token = world.token
        (well,) = await examined(paths, D=token)
        assert (well.name, well.state) == ("connector discord log-in", "ok")
        world.revoke_token()
        (revoked,) = await examined(paths, D=token)
    assert revoked.state == "wrong"
    assert "Reset Token), put it where env:D points" in revoked.way
