"""`python -m bot`: the `muster` command under a name that never changes.

Earlier versions run it to ask a newer one for its version, and to start it.
"""

from bot.interfaces.cli.entry import main

if __name__ == "__main__":
    main()
