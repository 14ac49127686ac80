"""Setting a fleet up on a homeserver: two users, a room with both, and the connector's block.

Every step first looks at what there is, so that the same call goes on after any interruption, and repairs what is
missing later. Before a step whose outcome could be lost with this process, what is needed to find it again is on the
disk: passwords before the users, a mark before the room.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bot.config.loader import Paths
from conduit.errors import ProvisionError
from conduit.homeserver_api import Homeserver, HomeserverRefusal
from conduit.setup_context import SetupContext, SetupOptions
from conduit.setup_record import RecordFolder, SetupRecord
from conduit.steps import muster_yaml_block, rate_limits
from conduit.steps.fleet_room import FleetRoom
from conduit.steps.muster_yaml_block import ConnectorBlock
from conduit.steps.operator_and_bot_users import Users


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupOutcome:
    """How things are now."""

    homeserver: str
    operator: str
    bot: str
    room: str
    changed: tuple[str, ...]
    """What had to be done, in words; nothing when all was there."""


@dataclass(kw_only=True)
class Provisioning:
    """One run."""

    wanted: SetupOptions
    homeserver: Homeserver
    kept: RecordFolder
    paths: Paths
    say: Callable[[str], None]
    _work: SetupContext = field(init=False)

    def __post_init__(self) -> None:
        self._work = SetupContext(wanted=self.wanted, homeserver=self.homeserver, kept=self.kept, say=self.say)

    async def run(self) -> SetupOutcome:
        """Do what is not done yet.

        Raises:
            ProvisionError: it could not be; the message says what to do, and the same call goes on from there.
        """
        record = self._begin()
        self._preview(record)
        await self._check_homeserver()
        # Down here, so that what is no homeserver leaves nothing behind.
        if record != self.kept.record():
            self.kept.write(record)
        users = Users(work=self._work)
        try:
            record = await users.ensure_operator(record)
            bot = await users.ensure_bot(record)
            if record.bot_id != bot.user:
                record = self.kept.write(replace(record, bot_id=bot.user))
            record = await FleetRoom(work=self._work, users=users).ensure(record, bot)
            record = await rate_limits.lift(self._work, users, record)
            self._write_settings(record)
        finally:
            with contextlib.suppress(ProvisionError):
                await users.leave(record)
        assert record.operator_id is not None
        assert record.bot_id is not None
        assert record.room is not None
        return SetupOutcome(
            homeserver=self.homeserver.url,
            operator=record.operator_id,
            bot=record.bot_id,
            room=record.room,
            changed=tuple(self._work.changed),
        )

    # --- before --------------------------------------------------------------------------------------------------

    def _begin(self) -> SetupRecord:
        """Return the record as it is to be, which may not be written yet."""
        wanted, url = self.wanted, self.homeserver.url
        record = self.kept.record()
        if record is None:
            return SetupRecord(
                homeserver=url,
                operator=wanted.operator,
                bot=wanted.bot,
                device=f"MUSTER{secrets.token_hex(4).upper()}",
                mark=secrets.token_hex(16),
            )
        # A name under which no one is known yet was a mistake, or is someone else's.
        if record.operator_id is None:
            record = replace(record, operator=wanted.operator)
        if record.bot_id is None:
            record = replace(record, bot=wanted.bot)
        found = (record.operator, record.bot)
        if found != (wanted.operator, wanted.bot):
            raise ProvisionError(
                f"The connector {wanted.connector} was set up here with operator {found[0]} and bot {found[1]}. Give "
                "the same names, or a connector of its own with --connector. To start over, move "
                f"{self.kept.record_file} away."
            )
        if record.homeserver != url:
            raise ProvisionError(
                f"The connector {wanted.connector} was set up here on {record.homeserver}, and not on {url}. Give the "
                "same address, or a connector of its own with --connector. If the same homeserver has moved, correct "
                f"the address in {self.kept.record_file} and in muster.yaml."
            )
        return record

    def _preview(self, record: SetupRecord) -> None:
        block = self._block(
            record,
            user=record.bot_id or f"@{record.bot}:example.org",
            operator=record.operator_id or f"@{record.operator}:example.org",
            room=record.room or "!room:example.org",
        )
        if record.bot_id is None:
            # Who we are there is not known yet; whether the rest fits, is.
            block = replace(block, user=muster_yaml_block.user_of(self.paths, block))
        muster_yaml_block.preview(self.paths, block)

    async def _check_homeserver(self) -> None:
        try:
            answer = await self.homeserver.call("GET", "versions", base="/_matrix/client")
        except HomeserverRefusal as error:
            raise ProvisionError(
                f"The homeserver {self.homeserver.url} does not say what it speaks: {error}."
            ) from None
        if not isinstance(answer.get("versions"), list):
            raise ProvisionError(
                f"What answers at {self.homeserver.url} is not a Matrix homeserver: it names no versions. Check the "
                "address."
            )

    # --- muster.yaml ---------------------------------------------------------------------------------------------

    def _write_settings(self, record: SetupRecord) -> None:
        assert record.bot_id is not None
        assert record.operator_id is not None
        assert record.room is not None
        block = self._block(record, user=record.bot_id, operator=record.operator_id, room=record.room)
        if muster_yaml_block.write(self.paths, block):
            self.say(f"Wrote connectors.{block.connector} into {self.paths.muster_yaml}.")
            self._work.changed.append(f"wrote connectors.{block.connector} into {self.paths.muster_yaml}")
        written = muster_yaml_block.room_of(self.paths, block)
        if written != block.room:
            self.say(
                f"connectors.{block.connector}.fleet_room in {self.paths.muster_yaml} is {written}, which is left so. "
                f"See that it is, or leads to, {block.room}, where you and the bot are."
            )

    def _block(self, record: SetupRecord, *, user: str, operator: str, room: str) -> ConnectorBlock:
        return ConnectorBlock(
            connector=self.wanted.connector,
            homeserver=record.homeserver,
            user=user,
            token_file=self.kept.token_file,
            folder=self.paths.config,
            room=room,
            operator=operator,
            encrypted=self.wanted.encrypted,
            former_room=record.former_room,
        )
