"""`python -m bot.upkeep.moving_in`, the earlier name that older versions run. Only the wheel has it under that name."""

import sys

from bot.maintenance.update.migrate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
