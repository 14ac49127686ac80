"""What starts a container's client: ``python -I -S container_launcher.py NAME=VALUE... -- PROGRAM ARGUMENT...``.

It becomes PROGRAM, with these variables as its environment. The one that it was given itself is the agent's: it goes
along as JSON in one variable, since the same names mean other things to the program (where the person's home is, for
one).

Nothing of Muster is imported.
"""

import json
import os
import sys

_ENVIRONMENT = "MUSTER_ENVIRONMENT"
_MARKER = "MUSTER_AGENT"


def main(arguments: list[str]) -> int:
    try:
        border = arguments.index("--")
        own = dict(word.split("=", 1) for word in arguments[:border])
        command = arguments[border + 1 :]
        if not command:
            raise ValueError
    except ValueError:
        print("usage: container_launcher.py NAME=VALUE... -- PROGRAM ARGUMENT...", file=sys.stderr)
        return 2
    own[_MARKER] = os.environ.get(_MARKER, "")
    own[_ENVIRONMENT] = json.dumps(dict(os.environ))
    try:
        os.execve(command[0], command, own)  # noqa: S606
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
