"""`python -m bot.doors.cli`, the earlier name that older versions run. Only the wheel has it under that name."""

from bot.interfaces.cli.entry import main

if __name__ == "__main__":
    main()
