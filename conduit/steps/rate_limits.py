"""How fast the bot may write, on Synapse (Synapse Admin API, "Override ratelimiting for users").

By default a user says one thing in five seconds there, which a fleet feels at once. Other homeservers are told in their
own configuration.
"""

from __future__ import annotations

from dataclasses import replace

from conduit.homeserver_api import HomeserverRefusal
from conduit.setup_context import SetupContext
from conduit.setup_record import SetupRecord
from conduit.steps.operator_and_bot_users import Users, WrongOperator

_BASE = "/_synapse/admin/v1"


async def lift(work: SetupContext, users: Users, record: SetupRecord) -> SetupRecord:
    """Lift the bot's limit, where we were let in as Synapse's administrators are and the operator is one.

    Raises:
        ProvisionError: the homeserver does not answer.
    """
    admission = work.wanted.admission
    if record.lifted or admission is None or admission.kind != "shared secret":
        return record
    assert record.bot_id is not None
    place = ("users", record.bot_id, "override_ratelimit")
    try:
        operator = await users.as_operator(record, "The bot's limit is to be lifted")
        # Zero is no limit.
        body = {"messages_per_second": 0, "burst_count": 0}
        await work.homeserver.call("POST", *place, base=_BASE, token=operator.token, body=body)
    except WrongOperator:
        return record
    except HomeserverRefusal as error:
        work.say(
            f"{record.bot_id} may write as fast as rc_message in homeserver.yaml lets everybody, since "
            f"{record.operator_id} may not lift that: {error}."
        )
    else:
        work.changed.append(f"lifted the limit on how fast {record.bot_id} may write")
    return work.kept.write(replace(record, lifted=True))
