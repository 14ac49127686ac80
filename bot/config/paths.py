"""Where everything of one installation lies.

``MUSTER_HOME`` holds all of it when it is set; otherwise the XDG base directories do (configuration in
``~/.config/muster``, state in ``~/.local/state/muster``)::

    CONFIG/muster.yaml  roster.yaml  roles/
    STATE/register.db   muster.lock  standby.lock  installation  muster.log  prompt-history  brought-down
    STATE/agents/NAME/        an agent's private folder
    STATE/workspaces/NAME/    where it works, unless the roster says otherwise
    STATE/connectors/NAME/    what a connector keeps
    STATE/keys/NAME/          its keys of encrypted rooms, which no backup holds and no restore turns back
    STATE/outgoing/           files that wait to be uploaded
    STATE/incoming/           pictures on their way to an agent
    STATE/drawing/            what the library that draws pictures keeps of fonts
    STATE/backups/            what `muster backup` wrote, and each update
    STATE/versions/  current  versions that were installed beside this one, and which of them runs
    STATE/seeds.json          what `muster init` wrote, to know later what was edited
    RUN/gateway.sock  agent-NAME.sock

Sockets do not go to ``XDG_RUNTIME_DIR``: that folder is emptied at the last logout, and agents go on after it.

`Paths.of` only computes; `Paths.prepare` makes the folders and refuses those that someone else could reach into.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.text.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The longest path that a unix socket may have, in bytes: ``sun_path`` of 108 with its final zero (unix(7)).
SOCKET_PATH_LIMIT = 107

#: The longest name of an agent, in characters (which are ASCII).
AGENT_NAME_LIMIT = 40

_LONGEST_SOCKET = len("/agent-.sock") + AGENT_NAME_LIMIT


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """The files and folders of one installation. All absolute."""

    config: Path
    """The folder of muster.yaml and roster.yaml."""
    state: Path
    """The folder of everything that must outlive the process."""
    sockets: Path
    """The folder of the gateway's and the agent hosts' sockets."""
    home: Path | None = None
    """MUSTER_HOME, when it is set: what a child process needs to find the same installation."""
    label: str = ""
    """Tells apart the units of several installations of one person; empty for the one in the usual place."""

    @classmethod
    def of(cls, environ: Mapping[str, str], *, uid: int | None = None, cwd: Path | None = None) -> Paths:
        """Compute the paths from the environment. Touches nothing.

        Args:
            environ: where MUSTER_HOME, XDG_CONFIG_HOME, XDG_STATE_HOME and HOME are looked up.
            uid: the user whose installation it is; the process's own by default.
            cwd: what a relative MUSTER_HOME is relative to; the process's own by default.
        """
        uid = os.getuid() if uid is None else uid
        given = environ.get("MUSTER_HOME", "")
        home: Path | None = None
        person = Path()
        if given:
            expanded = _person(environ, uid) / given[2:] if given.startswith("~/") else Path(given)
            home = Path(os.path.normpath((cwd or Path.cwd()) / expanded))
            config, state, sockets = home, home / "state", home / "run"
        else:
            person = _person(environ, uid)
            config = _xdg(environ, "XDG_CONFIG_HOME", person / ".config") / "muster"
            state = _xdg(environ, "XDG_STATE_HOME", person / ".local" / "state") / "muster"
            sockets = state / "run"
        if len(os.fsencode(sockets)) + _LONGEST_SOCKET > SOCKET_PATH_LIMIT:
            sockets = _short_folder(sockets, uid)
        usual = not given and state == person / ".local" / "state" / "muster"
        label = "" if usual else _digest(state)[:8]
        return cls(config=config, state=state, sockets=sockets, home=home, label=label)

    @property
    def muster_yaml(self) -> Path:
        """The settings."""
        return self.config / "muster.yaml"

    @property
    def roster_yaml(self) -> Path:
        """The fleet as the operator wants it."""
        return self.config / "roster.yaml"

    @property
    def roles(self) -> Path:
        """The folder of the operator's own roles, which go before those that are shipped."""
        return self.config / "roles"

    @property
    def register_url(self) -> str:
        """The register's URL when muster.yaml names none."""
        return f"sqlite:///{self.state / 'register.db'}"

    @property
    def gateway_socket(self) -> Path:
        """Where the orchestrator listens for the shell."""
        return self.sockets / "gateway.sock"

    @property
    def lock(self) -> Path:
        """Held by the one running orchestrator."""
        return self.state / "muster.lock"

    @property
    def standby_lock(self) -> Path:
        """Held by the one that waits to take its place."""
        return self.state / "standby.lock"

    @property
    def installation(self) -> Path:
        """A word that tells this installation from every other."""
        return self.state / "installation"

    @property
    def log(self) -> Path:
        """The orchestrator's log when it is detached."""
        return self.state / "muster.log"

    @property
    def brought_down(self) -> Path:
        """Who was stopped together with Muster, and comes up with it again."""
        return self.state / "brought-down"

    @property
    def prompt_history(self) -> Path:
        """What was typed at the prompt."""
        return self.state / "prompt-history"

    @property
    def agents(self) -> Path:
        """The folder of the agents' private folders."""
        return self.state / "agents"

    @property
    def workspaces(self) -> Path:
        """The folder of the workspaces that the roster does not place elsewhere."""
        return self.state / "workspaces"

    @property
    def connectors(self) -> Path:
        """The folder of the connectors' private folders."""
        return self.state / "connectors"

    @property
    def unsaid(self) -> Path:
        """The folder of what was typed in panes of tmux and not taken yet, by connector."""
        return self.state / "unsaid"

    @property
    def outgoing(self) -> Path:
        """The folder of files that wait to be uploaded."""
        return self.state / "outgoing"

    @property
    def incoming(self) -> Path:
        """The folder of pictures that operators sent, until an agent has them."""
        return self.state / "incoming"

    @property
    def drawing(self) -> Path:
        """The folder of the process that draws pictures; all in it can be made again."""
        return self.state / "drawing"

    def agent_folder(self, name: str) -> Path:
        """Return the private folder of an agent: journal, home, images, log."""
        return self.agents / _leaf(name)

    def agent_socket(self, name: str) -> Path:
        """Return the control socket of an agent host."""
        return self.sockets / f"agent-{_leaf(name)}.sock"

    def tools_socket(self, name: str) -> Path:
        """Return where an agent reaches Muster's own tools."""
        return self.sockets / f"tools-{_leaf(name)}.sock"

    def workspace(self, name: str) -> Path:
        """Return where an agent works, unless the roster says otherwise."""
        return self.workspaces / _leaf(name)

    def connector_folder(self, name: str) -> Path:
        """Return the private folder of a connector."""
        return self.connectors / _leaf(name)

    def keys_folder(self, name: str) -> Path:
        """Return the folder of a connector's keys."""
        return self.state / "keys" / _leaf(name)

    def private_folders(self) -> tuple[Path, ...]:
        """Return every folder of which no one else may see the inside: what a sandbox has to hide."""
        return (self.config, self.state, self.sockets)

    def prepare(self, *, uid: int | None = None) -> None:
        """Make the folders, each 0700, and close those of the state that are open.

        Raises:
            UserError: one of them cannot be made, is not a folder, or is within someone else's reach.
        """
        uid = os.getuid() if uid is None else uid
        # The configuration may lie in a folder that was there before us and that others may read.
        _claim(self.config, uid, forbidden=0o022)
        _claim(self.state, uid, tighten=True)
        self.check_sockets(uid=uid)
        for folder in (self.agents, self.workspaces, self.connectors, self.outgoing, self.incoming):
            _claim(folder, uid, tighten=True)

    def check_sockets(self, *, uid: int | None = None) -> None:
        """Make the sockets' folder, or see that the one which is there is ours alone.

        Raises:
            UserError: it cannot be made, is not a folder, or is within someone else's reach.
        """
        uid = os.getuid() if uid is None else uid
        ours = self.sockets.parent in (self.config, self.state)
        if not ours:
            # Below /tmp, where everybody can make folders: what was ever open is not trusted.
            _claim(self.sockets.parent, uid, forbidden=0o077)
        _claim(self.sockets, uid, tighten=ours)


def _person(environ: Mapping[str, str], uid: int) -> Path:
    home = environ.get("HOME", "")
    if os.path.isabs(home):
        return Path(home)
    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        raise UserError(
            f"This user ({uid}) has no home folder, and HOME is not set. Set MUSTER_HOME to a folder of your own.",
            code="installation.folder",
        ) from None


def _xdg(environ: Mapping[str, str], variable: str, fallback: Path) -> Path:
    # A relative path is invalid and to be ignored (XDG Base Directory Specification 0.8).
    value = environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else fallback


def _short_folder(folder: Path, uid: int) -> Path:
    digest = _digest(folder)[:12]
    # Not TMPDIR: every process of the installation must come to the same place, whatever its environment says.
    return Path("/tmp") / f"muster-{uid}" / digest  # noqa: S108  `prepare` checks owner and mode


def _leaf(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"not a name for a file: {name!r}")
    return name


def _claim(folder: Path, uid: int, *, forbidden: int = 0o077, tighten: bool = False) -> None:
    """Make sure that `folder` is a folder of ours without the permission bits `forbidden`.

    With `tighten` they are taken away; without it a folder that has them is refused.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # A link in a place where everybody can make links may lead anywhere.
        found = folder.stat() if tighten or forbidden != 0o077 else folder.lstat()
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made: {error.strerror}. Make it yourself, or set MUSTER_HOME to a folder "
            "that you can write to.",
            code="installation.folder",
        ) from error
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(
            f"{folder} is not a folder. Move it away, or set MUSTER_HOME to another place.", code="installation.folder"
        )
    if found.st_uid != uid:
        raise UserError(
            f"The folder {folder} belongs to another user ({found.st_uid}), who could listen in. Have it removed, or "
            "set MUSTER_HOME to a short path of your own.",
            code="installation.folder",
        )
    if mode & forbidden and not tighten:
        raise UserError(
            f"The folder {folder} is open to others (mode {mode:04o}). Close it with chmod {mode & ~forbidden:03o} "
            f"{folder} if it is yours, or set MUSTER_HOME to a short path of your own.",
            code="installation.folder",
        )
    if mode & forbidden:
        folder.chmod(mode & ~forbidden)


def _digest(path: Path) -> str:
    import hashlib  # a shell's command rarely needs it, and it loads OpenSSL

    return hashlib.sha256(os.fsencode(path)).hexdigest()
