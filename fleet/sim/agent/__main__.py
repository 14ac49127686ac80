"""`python -m fleet.sim.agent`: the built-in agent, under the name that hosts of every version start it by.

With ``--resume SESSION`` it goes on with that session for a person at a terminal.
"""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["--resume"] and len(sys.argv) == 3:
        from fleet.sim.agent import terminal

        sys.exit(terminal.main(sys.argv[2]))
    from fleet.sim.agent.acp_agent import main

    sys.exit(main())
