"""What an agent can see and reach.

`bubblewrap` is the default wherever it works; a container is had where a profile says so; `none` takes an explicit
setting, because an agent under it runs as the operator's own user and could give Muster orders.

A hostile repository must not run anything on the host either. Its git configuration can (core.fsmonitor, filters,
hooks), in whoever calls git there; so Muster opens a workspace with git, or any other program, inside a sandbox only
(`fleet.workspace`).
"""

from fleet.sandbox.allowed_paths import check_workspace
from fleet.sandbox.command_wrapper import interpreter, removal, wrap
from fleet.sandbox.selection import choose

__all__ = ["check_workspace", "choose", "interpreter", "removal", "wrap"]
