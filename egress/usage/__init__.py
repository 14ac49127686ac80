"""Usage of responses: pure, incremental parsers that never delay the response's bytes.

A meter takes a response's content (without content encodings) and returns what may be sent to the client. It holds back
the terminal event, so that the ledger row is durable before a client can act on the end.
"""

from egress.usage.document_assembly import NotAssembledError as NotAssembledError
from egress.usage.meter_interface import Meter as Meter
from egress.usage.meter_interface import UsageReading as UsageReading
from egress.usage.meter_selection import ResponseMeter as ResponseMeter
from egress.usage.meter_selection import meter_of as meter_of
