"""Which meter reads which response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.usage.anthropic import Messages
from egress.usage.body import BodyMeter
from egress.usage.completions import Completions
from egress.usage.responses import Responses
from egress.usage.stream import StreamMeter

if TYPE_CHECKING:
    from egress.apis import Api
    from egress.usage.dialect import Dialect
    from egress.usage.reading import Meter


def meter_of(api: Api, streaming: bool, status: int, hide_usage: bool) -> Meter:
    """A meter for one response.

    Args:
        api: how it is written.
        streaming: its Content-Type is text/event-stream.
        status: its HTTP status.
        hide_usage: the client did not ask for the usage chunk of a Chat Completions stream: it does not get it.
    """
    dialect: Dialect
    if api == "anthropic":
        dialect = Messages()
    elif api == "responses":
        dialect = Responses()
    else:
        dialect = Completions(hide_usage=hide_usage)
    return StreamMeter(dialect) if streaming else BodyMeter(dialect, status)
