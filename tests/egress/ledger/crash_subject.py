"""A process that drives a ledger for as long as it lives, and says what was acknowledged: to be killed.

``python -m tests.egress.ledger.crash_subject LEDGER``: each line on standard output is ``r ID`` (reserved), ``t ID
OUTPUT`` (told by its stream), ``s ID OUTPUT`` (settled) or ``d AGENT`` (denied), written after the ledger said so.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from egress.ledger.service import UsageLedger
from egress.ledger.table_rows import Denial
from tests.egress.ledger.rows import reservation, settlement

TOGETHER = 16
#: Tokens of output that each request reserves, and by how much more each stream has told than before.
RESERVED, TELLS = 20, 7


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def drive(ledger: UsageLedger, name: str) -> None:
    while True:
        made = reservation(ledger, agent=name, at=time.time(), output=RESERVED)
        ledger.reserve(made)
        say("r", made.id)
        for _ in range(random.choice((0, 0, 1, 2))):
            await asyncio.sleep(0)
            made = made._replace(output=made.output + TELLS)
            ledger.tell(made)
            say("t", made.id, made.output)
        output = random.randrange(1, 10**6)
        if random.random() < 0.1:
            await ledger.deny(Denial(name, "cutoff", "", "ann", made.id, time.time()), result="denied")
            say("d", name)
        elif random.random() < 0.9:
            await ledger.settle(settlement(made, output=output))
            say("s", made.id, output)


async def main() -> None:
    # Files of what is under way are turned often.
    ledger = await UsageLedger.open(Path(sys.argv[1]), long=20_000)
    say("o", ledger.recovered)
    await asyncio.gather(*(drive(ledger, f"agent{number}") for number in range(TOGETHER)))


if __name__ == "__main__":
    asyncio.run(main())
