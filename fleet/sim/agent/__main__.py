"""`python -m fleet.sim.agent`: the built-in agent, under the name that hosts of every version start it by."""

import sys

from fleet.sim.agent.acp_agent import main

if __name__ == "__main__":
    sys.exit(main())
