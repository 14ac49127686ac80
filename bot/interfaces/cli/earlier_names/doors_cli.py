"""`python -m bot.doors.cli`, as versions before the move call this one. The wheel alone has it under that name."""

from bot.interfaces.cli.main import main

if __name__ == "__main__":
    main()
