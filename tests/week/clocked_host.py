"""An agent host whose clock somebody else sets: `clocked_host.py CLOCK` and what `fleet.host.process` takes.

CLOCK is a file that holds by how many seconds its clock is ahead of the machine's
(tests.week.simulated_clock.FakeClock). It is run as a script, with no tests on its path.
"""

import mmap
import struct
import sys
import time

if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        ahead = mmap.mmap(file.fileno(), struct.calcsize("d"), access=mmap.ACCESS_READ)
    machine = time.time

    def clock() -> float:
        return machine() + float(struct.unpack("d", ahead[:])[0])

    # Before anything takes it for a default.
    time.time = clock
    from fleet.host.process import main

    sys.exit(main(sys.argv[2:]))
