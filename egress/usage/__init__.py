"""What responses used: pure, incremental, and never in the way of the bytes.

A meter is fed the response's content (decoded from any content encoding) and gives back what may go on to the client.
It keeps back the terminal event, so that the row of the ledger is durable before a client can act on the end.
"""

from egress.usage.documents import NotAssembledError as NotAssembledError
from egress.usage.meters import ResponseMeter as ResponseMeter
from egress.usage.meters import meter_of as meter_of
from egress.usage.reading import Meter as Meter
from egress.usage.reading import Reading as Reading
