"""`python -m fleet.sim.provider`: the simulated provider as a process of its own."""

import sys

from fleet.sim.provider.server import main

if __name__ == "__main__":
    sys.exit(main())
