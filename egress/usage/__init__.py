"""What responses used: pure, incremental, and never in the way of the bytes.

A meter is fed the response's content (decoded from any content encoding) and gives back what may go on to the client.
It keeps back the terminal event, so that the row of the ledger is durable before a client can act on the end.
"""

from egress.usage.document_assembly import NotAssembledError as NotAssembledError
from egress.usage.meter_interface import Meter as Meter
from egress.usage.meter_interface import UsageReading as UsageReading
from egress.usage.meter_selection import ResponseMeter as ResponseMeter
from egress.usage.meter_selection import meter_of as meter_of
