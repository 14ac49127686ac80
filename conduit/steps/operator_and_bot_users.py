"""The two users of a fleet: the operator and the bot, registered or logged in as.

We act as the operator on a device of its own, and are logged out at the end. What is kept says while we are in, so that
a run that was killed leaves no one logged in for longer than until the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from conduit import account_registration
from conduit.account_registration import HomeserverSession, NameTaken, WrongPassword
from conduit.errors import ProvisionError
from conduit.setup_context import SetupContext
from conduit.setup_record import SetupRecord
from core import crash_points

OPERATOR = crash_points.declare("provision.operator")
BOT = crash_points.declare("provision.bot")

#: The device on which we act as the operator.
_OURS = "MUSTERSETUP"


@dataclass(kw_only=True)
class Users:
    """The users, as far as one run has to do with them."""

    work: SetupContext
    _operator: HomeserverSession | None = field(default=None, init=False)

    async def ensure_operator(self, record: SetupRecord) -> SetupRecord:
        if record.operator_id is not None:
            return record
        password = self.work.wanted.operator_password or self.work.kept.new_password("operator")
        self.work.kept.begin_acting()
        # First of the two: Conduit makes the first user of all its administrator.
        with crash_points.around(OPERATOR):
            session = await self._user(record.operator, password, device=_OURS, admin=True, option="operator")
        self._operator = session
        self.work.kept.drop_unlike("operator", password)
        return self.work.kept.write(replace(record, operator_id=session.user))

    async def ensure_bot(self, record: SetupRecord) -> HomeserverSession:
        token = self.work.kept.token()
        if token is not None:
            session = await account_registration.who(self.work.homeserver, token)
            if session is not None and session.user.startswith(f"@{record.bot}:"):
                return session
        if record.bot_id is None:
            password = self.work.wanted.bot_password or self.work.kept.new_password("bot")
            with crash_points.around(BOT):
                session = await self._user(record.bot, password, device=record.device, admin=False, option="bot")
            self.work.kept.drop_unlike("bot", password)
        else:
            self.work.say(f"The log-in of {record.bot_id} is over; logging in again.")
            session = await self._log_in_again(record)
            self.work.changed.append(f"logged {session.user} in again")
        self.work.kept.write_token(session.token)
        return session

    async def _user(self, name: str, password: str, *, device: str, admin: bool, option: str) -> HomeserverSession:
        """Make a user, or log in as the one that we made."""
        homeserver, admission = self.work.homeserver, self.work.wanted.admission
        if admission is not None:
            try:
                session = await account_registration.register(
                    homeserver,
                    admission,
                    name=name,
                    password=password,
                    device=device,
                    admin=admin,
                )
            except NameTaken:
                pass
            else:
                self.work.say(f"Registered {session.user}.")
                self.work.changed.append(f"registered {session.user}")
                return session
        try:
            return await account_registration.log_in(homeserver, name=name, password=password, device=device)
        except WrongPassword as error:
            if admission is None:
                raise ProvisionError(
                    f"{error} If there is no such user yet, give --registration-token or --shared-secret; if there is, "
                    f"say where its password is with --{option}-password."
                ) from None
            raise ProvisionError(
                f"There is a user {name} on {homeserver.url} already, and the password is another. Choose another "
                f"name, or say where its password is with --{option}-password."
            ) from None

    async def _log_in_again(self, record: SetupRecord) -> HomeserverSession:
        kept = self.work.kept
        password = self.work.wanted.bot_password or kept.password("bot")
        if password is None:
            raise ProvisionError(
                f"The log-in of {record.bot_id} is over, and its password is not kept here. Say where it is with "
                "--bot-password."
            )
        try:
            return await account_registration.log_in(
                self.work.homeserver, name=record.bot, password=password, device=record.device
            )
        except WrongPassword as error:
            raise ProvisionError(
                f"{error} If it was changed, say where the new one is with --bot-password. If the homeserver was set "
                f"up again, with an empty database, move {kept.record_file} and {kept.token_file} away; then run the "
                "same command again."
            ) from None

    async def as_operator(self, record: SetupRecord, why: str) -> HomeserverSession:
        """Return a log-in as the operator, when it is needed.

        Raises:
            WrongOperator: there is no password for it.
        """
        if self._operator is not None:
            return self._operator
        password = self.work.wanted.operator_password or self.work.kept.password("operator")
        if password is None:
            raise WrongOperator(
                f"{why}, or say where the password of {record.operator_id} is with --operator-password."
            )
        self.work.kept.begin_acting()
        try:
            self._operator = await account_registration.log_in(
                self.work.homeserver, name=record.operator, password=password, device=_OURS
            )
        except WrongPassword:
            raise WrongOperator(
                f"{why}, or say where the password of {record.operator_id} is with --operator-password: the first one "
                "is not taken any more."
            ) from None
        return self._operator

    async def leave(self, record: SetupRecord) -> None:
        """End our log-in as the operator, and one that a run left behind which was killed.

        Raises:
            ProvisionError: the homeserver does not answer; the next run does it.
        """
        if not self.work.kept.is_acting() or record.operator_id is None:
            return
        try:
            operator = await self.as_operator(record, "A log-in of an earlier run is to be ended")
        except WrongOperator:
            self.work.say(
                f"A run that was stopped may have left {record.operator_id} logged in on the device {_OURS}. In "
                "Element, under Settings, Sessions, it can be signed out."
            )
        else:
            await account_registration.log_out(self.work.homeserver, operator)
            self._operator = None
        self.work.kept.end_acting()


class WrongOperator(ProvisionError):
    """We cannot act as the operator."""
