"""`python -m bot`: the `muster` command under a name that no version changes.

Earlier versions run it to ask a newer one its version, and to start it.
"""

from bot.interfaces.cli.main import main

if __name__ == "__main__":
    main()
