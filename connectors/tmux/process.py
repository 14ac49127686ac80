"""Looks for the pane, or makes it: ``python -P -m connectors.tmux.process``; the wish on standard input, as JSON.

A process of its own, since libtmux asks tmux with the environment that it is in, and waits for as long as it takes. So
nothing of Muster's environment reaches a tmux server that is started here, and one that hangs is left.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict


def main() -> int:
    from connectors.tmux.pane_finder import Trouble, look, stand
    from connectors.tmux.pane_model import WantedPane

    wish = json.load(sys.stdin)
    wanted = WantedPane(**wish["wanted"])
    try:
        place = stand(wanted, anew=wish["anew"]) if wish["make"] else look(wanted)
    except Trouble as error:
        answer: dict[str, object] = {"trouble": str(error)}
    else:
        answer = {"place": None if place is None else asdict(place)}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
