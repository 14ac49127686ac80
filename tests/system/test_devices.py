"""Devices in an encrypted room, as its operator and the shell see them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from fleet.sim.provider.server import Provider
from tests.encrypted_operator import EncryptedOperator
from tests.operator_client import body
from tests.synapse import Synapse
from tests.system.matrix_installation import installation, replies_to

pytestmark = [pytest.mark.synapse, pytest.mark.slow]


async def test_a_stolen_phone_is_told_of_listed_and_blocked(tmp_path: Path, synapse: Synapse, models: Provider) -> None:
    async with (
        installation(tmp_path, synapse, models, invite=False) as home,
        EncryptedOperator(await synapse.log_in(home.ana.account), tmp_path / "laptop") as ana,
    ):
        written = yaml.safe_load(home.paths.muster_yaml.read_text())
        written["connectors"]["matrix"]["encryption"] = "required"
        home.paths.muster_yaml.write_text(yaml.safe_dump(written))
        room = await ana.create_room(invite=[home.bot.user_id], encrypted=True)

        async def ask(text: str) -> str:
            asked = await ana.say(room, text)
            answer = await ana.wait_for(room, lambda event: replies_to(event) == asked and "body" in event["content"])
            return body(answer)

        await home.start()
        await ana.wait_for(
            room,
            lambda event: event.get("state_key") == home.bot.user_id and event["content"].get("membership") == "join",
        )
        assert ana.fingerprint[:4] in await ask("!matrix devices")
        async with EncryptedOperator(await synapse.log_in(home.ana.account), tmp_path / "phone") as phone:
            name = phone.account.device_id
            await ask("!ps")
            told = await ana.wait_for(room, lambda event: "A new device" in body(event))
            assert f"`{name}`" in body(told)
            assert f"`!matrix block {name}`" in body(told)
            assert "gets no more keys" in await ask(f"!matrix block {name}")
            await phone.say(room, "!stop all")
            await ana.wait_for(room, lambda event: "which is blocked" in body(event))
        await home.kill()
        await home.start()
        status, listed = await home.shell("matrix", "devices", "--json")
        assert status == 0, listed
        standing = {each["device"]: (each["standing"], each["reads"]) for each in json.loads(listed)}
        assert standing[name] == ("blocked", False)
        assert standing[ana.account.device_id] == ("seen", True)
        assert "No agent" in await ask("!ps")
        folder = home.paths.keys_folder("matrix")
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
        status, made = await home.shell("backup", "--json")
        assert status == 0, made
        with tarfile.open(json.loads(made)["file"]) as archive:
            kept = archive.getnames()
        assert "state/connectors/matrix/devices.json" in kept
        assert not [each for each in kept if each.startswith("state/keys")]
