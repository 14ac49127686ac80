"""`python -m bot.upkeep.moving_in`, as versions before the move call this one. The wheel alone has it under that
name."""

import sys

from bot.maintenance.update.migrate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
