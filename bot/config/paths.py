"""The files and folders of one installation.

``MUSTER_HOME`` holds all of them if it is set. Otherwise the XDG base directories do (configuration in
``~/.config/muster``, state in ``~/.local/state/muster``)::

    CONFIG/muster.yaml  roster.yaml  roles/
    STATE/register.db   muster.lock  standby.lock  installation  muster.log  prompt-history  brought-down
    STATE/agents/NAME/        an agent's private folder
    STATE/workspaces/NAME/    an agent's workspace, unless the roster sets another
    STATE/repositories/HOST/  copies of a forge's repositories, of which agents get clones; .kept: commits of ended runs
    STATE/connectors/NAME/    a connector's private folder
    STATE/keys/NAME/          a connector's keys of encrypted rooms; backups and restores skip them
    STATE/outgoing/           files that wait for upload
    STATE/incoming/           pictures on their way to an agent
    STATE/drawing/            the working folder of the process that draws charts
    STATE/backups/            backups written by `muster backup` and by each update
    STATE/versions/  current  versions installed beside this one, and which of them runs
    STATE/signing-key         the key that signs records of provenance and the audit
    STATE/seeds.json          what `muster init` wrote, to detect later edits
    RUN/gateway.sock  agent-NAME.sock

Sockets are not in ``XDG_RUNTIME_DIR``: that folder is emptied at the last logout, and agents keep running after it.

`Paths.of` only computes. `Paths.prepare` creates the folders and refuses those that other users can access.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.config.state_folder import home_folder, muster_home, xdg_folder
from bot.text.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The maximum length of a unix socket's path in bytes: ``sun_path`` has 108 with the final zero (unix(7)).
SOCKET_PATH_LIMIT = 107

#: The maximum length of an agent's name in (ASCII) characters.
AGENT_NAME_LIMIT = 40

_LONGEST_SOCKET = len("/agent-.sock") + AGENT_NAME_LIMIT


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """The files and folders of one installation, as absolute paths."""

    config: Path
    """The folder of muster.yaml and roster.yaml."""
    state: Path
    """The folder of everything that must outlive the process."""
    sockets: Path
    """The folder of the gateway's and the agent hosts' sockets."""
    home: Path | None = None
    """MUSTER_HOME if it is set; a child process needs it to find the same installation."""
    label: str = ""
    """A suffix that distinguishes the units of one person's installations; empty for the default location."""

    @classmethod
    def of(cls, environ: Mapping[str, str], *, uid: int | None = None, cwd: Path | None = None) -> Paths:
        """Compute the paths from the environment, without changing the disk.

        Args:
            environ: the environment with MUSTER_HOME, XDG_CONFIG_HOME, XDG_STATE_HOME and HOME.
            uid: the owner of the installation; by default the process's user.
            cwd: the base of a relative MUSTER_HOME; by default the process's working directory.
        """
        uid = os.getuid() if uid is None else uid
        root = muster_home(environ, uid, None if cwd is None else os.fspath(cwd))
        home: Path | None = None
        usual: Path | None = None
        if root is not None:
            home = Path(root)
            config, state, sockets = home, home / "state", home / "run"
        else:
            config = Path(xdg_folder(environ, "XDG_CONFIG_HOME", ".config", uid)) / "muster"
            state = Path(xdg_folder(environ, "XDG_STATE_HOME", ".local/state", uid)) / "muster"
            usual = Path(home_folder(environ, uid)) / ".local" / "state" / "muster"
            sockets = state / "run"
        if len(os.fsencode(sockets)) + _LONGEST_SOCKET > SOCKET_PATH_LIMIT:
            sockets = _short_folder(sockets, uid)
        label = "" if state == usual else _digest(state)[:8]
        return cls(config=config, state=state, sockets=sockets, home=home, label=label)

    @property
    def muster_yaml(self) -> Path:
        """The settings file."""
        return self.config / "muster.yaml"

    @property
    def roster_yaml(self) -> Path:
        """The file with the operator's desired fleet."""
        return self.config / "roster.yaml"

    @property
    def roles(self) -> Path:
        """The folder of the operator's own roles, which take precedence over the built-in ones."""
        return self.config / "roles"

    @property
    def register_url(self) -> str:
        """The default URL of the register."""
        return f"sqlite:///{self.state / 'register.db'}"

    @property
    def gateway_socket(self) -> Path:
        """The socket on which the orchestrator listens for shell commands."""
        return self.sockets / "gateway.sock"

    @property
    def lock(self) -> Path:
        """The lock that the running orchestrator holds."""
        return self.state / "muster.lock"

    @property
    def standby_lock(self) -> Path:
        """The lock that the standby orchestrator holds."""
        return self.state / "standby.lock"

    @property
    def installation(self) -> Path:
        """The file with the unique ID of this installation."""
        return self.state / "installation"

    @property
    def signing_key(self) -> Path:
        """The file with the key that signs records and the audit."""
        return self.state / "signing-key"

    @property
    def log(self) -> Path:
        """The log of a detached orchestrator."""
        return self.state / "muster.log"

    @property
    def push_key(self) -> Path:
        """The private key that signs pushes to browsers."""
        return self.state / "push-key.pem"

    @property
    def brought_down(self) -> Path:
        """The list of agents that stopped together with Muster and start with it again."""
        return self.state / "brought-down"

    @property
    def prompt_history(self) -> Path:
        """The history file of the prompt."""
        return self.state / "prompt-history"

    @property
    def agents(self) -> Path:
        """The folder of the agents' private folders."""
        return self.state / "agents"

    @property
    def workspaces(self) -> Path:
        """The folder of all workspaces for which the roster sets no path."""
        return self.state / "workspaces"

    @property
    def repositories(self) -> Path:
        """The folder of Muster's copies of a forge's repositories, of which agents get clones."""
        return self.state / "repositories"

    @property
    def connectors(self) -> Path:
        """The folder of the connectors' private folders."""
        return self.state / "connectors"

    @property
    def unsaid(self) -> Path:
        """The folder of unprocessed input from tmux panes, by connector."""
        return self.state / "unsaid"

    @property
    def outgoing(self) -> Path:
        """The folder of files that wait for upload."""
        return self.state / "outgoing"

    @property
    def incoming(self) -> Path:
        """The folder of operators' pictures that no agent has received yet."""
        return self.state / "incoming"

    @property
    def drawing(self) -> Path:
        """The folder of the process that draws pictures. Its contents can be recreated."""
        return self.state / "drawing"

    def agent_folder(self, name: str) -> Path:
        """Return the private folder of an agent: journal, home, images, log."""
        return self.agents / _leaf(name)

    def agent_socket(self, name: str) -> Path:
        """Return the control socket of an agent host."""
        return self.sockets / f"agent-{_leaf(name)}.sock"

    def tools_socket(self, name: str) -> Path:
        """Return the socket through which an agent calls Muster's own tools."""
        return self.sockets / f"tools-{_leaf(name)}.sock"

    def workspace(self, name: str) -> Path:
        """Return the default workspace of an agent."""
        return self.workspaces / _leaf(name)

    def connector_folder(self, name: str) -> Path:
        """Return the private folder of a connector."""
        return self.connectors / _leaf(name)

    def keys_folder(self, name: str) -> Path:
        """Return the folder of a connector's keys."""
        return self.state / "keys" / _leaf(name)

    def private_folders(self) -> tuple[Path, ...]:
        """Return every folder that only its owner may read. A sandbox must hide them."""
        return (self.config, self.state, self.sockets)

    def prepare(self, *, uid: int | None = None) -> None:
        """Create the folders with mode 0700, and remove other users' access to existing state folders.

        Raises:
            UserError: a folder cannot be created, is not a folder, or is accessible to another user.
        """
        uid = os.getuid() if uid is None else uid
        # The configuration folder may have existed before, and others may read it.
        _claim(self.config, uid, forbidden=0o022)
        _claim(self.state, uid, tighten=True)
        self.check_sockets(uid=uid)
        for folder in (self.agents, self.workspaces, self.connectors, self.outgoing, self.incoming):
            _claim(folder, uid, tighten=True)

    def check_sockets(self, *, uid: int | None = None) -> None:
        """Create the sockets' folder, or check that only this user can access the existing one.

        Raises:
            UserError: it cannot be created, is not a folder, or is accessible to another user.
        """
        uid = os.getuid() if uid is None else uid
        ours = self.sockets.parent in (self.config, self.state)
        if not ours:
            # Any user can create folders in /tmp: refuse a folder that is open to others instead of tightening it.
            _claim(self.sockets.parent, uid, forbidden=0o077)
        _claim(self.sockets, uid, tighten=ours)


def _short_folder(folder: Path, uid: int) -> Path:
    digest = _digest(folder)[:12]
    # Not TMPDIR: every process of the installation must compute the same path, whatever its environment.
    return Path("/tmp") / f"muster-{uid}" / digest  # noqa: S108  `prepare` checks owner and mode


def _leaf(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"not a name for a file: {name!r}")
    return name


def _claim(folder: Path, uid: int, *, forbidden: int = 0o077, tighten: bool = False) -> None:
    """Ensure that `folder` exists, belongs to `uid` and lacks the permission bits `forbidden`.

    With `tighten` the bits are removed; without it a folder that has them is refused.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Do not follow a symlink that another user may have created.
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
            f"The folder {folder} is open to others (mode {mode:04o}). Close it with `chmod {mode & ~forbidden:03o} "
            f"{folder}` if it is yours, or set MUSTER_HOME to a short path of your own.",
            code="installation.folder",
        )
    if mode & forbidden:
        folder.chmod(mode & ~forbidden)


def _digest(path: Path) -> str:
    import hashlib  # a shell's command rarely needs it, and it loads OpenSSL

    return hashlib.sha256(os.fsencode(path)).hexdigest()
