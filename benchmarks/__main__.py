"""``python -m benchmarks [NAME ...]``: measure, print a table, and say by the exit status whether every bound was kept.

Exit status: 0 every bound was kept, 1 one was missed or a benchmark failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
import time
import traceback

from benchmarks.figures import Figure, table
from core import logs

#: What there is, in the order in which it is run.
BENCHMARKS = {
    "startup": "muster --help and muster ps beside python -c pass",
    "round_trip": "!ps, !whoami and !help on Synapse beside a bare matrix-nio echo bot",
    "encrypted": "!ps in an encrypted room beside one that is not",
    "memory": "the orchestrator with two agents, and an agent host",
    "roster": "reading and checking a roster of 1,000 and of 10,000 agents",
    "fleet_size": "!ps, the sweep and the start with 10, 100 and 1,000 agents",
    "pacing": "how long windows of seven days last at an even pace, beside greedy and whole days",
    "dashboard": "from a key in the terminal's dashboard to the screen, while 1,000 agents change",
    "egress": "the metering proxy beside a direct connection and other proxies",
    "documents": "how old a request's use is when a dashboard has it, and the document of a fleet of 1,000",
    "web": "the dashboard in Chromium: first paint, weight of pages, age of what they show",
    "dispatch": "a dispatch decision while 10,000 tasks wait",
    "ledger_queries": "sums of a ledger of 1,000,000 requests on SQLite",
    "connectors": "200 threads at work at once on each connector, 1,000 that are known",
    "webhooks": "200 webhooks of a forge at once, until each is durable",
    "waiting_runs": "50 runs of issues that wait for people, beside none",
    "backlog": "1,000 commands that were written while the bot was down",
}


def main() -> int:
    """Run what was asked for; the exit status."""
    listing = "\n".join(f"  {name:<14} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure what Muster costs.\n\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="what to measure; by default all")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}")
    # Standard output is for the figures alone, also while an orchestrator runs inside this process.
    logs.configure(logging.StreamHandler(sys.stderr), str, level=logging.ERROR)
    found: dict[str, list[Figure]] = {}
    failed: dict[str, str] = {}
    for name in arguments.names or BENCHMARKS:
        began = time.monotonic()
        try:
            figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").measure()
        except Exception as error:
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = figures
            if not arguments.json:
                print(table(f"{name}: {BENCHMARKS[name]} ({time.monotonic() - began:.0f} s)", figures), flush=True)
    missed = [figure.name for figures in found.values() for figure in figures if figure.missed]
    if arguments.json:
        print(json.dumps({"figures": {name: [f.to_json() for f in figures] for name, figures in found.items()},
                          "failed": failed}, indent=2))  # fmt: skip
    if missed or failed:
        print("missed: " + ", ".join([*missed, *(f"{name} failed" for name in failed)]), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
