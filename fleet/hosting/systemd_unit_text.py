"""What is in the systemd user units of one installation. Pure.

systemd starts an agent host and ends it; when one that died is started again is the orchestrator's to say, so no unit
of an agent restarts by itself. After a boot systemd starts those agent hosts that ran when the machine went down
(`WANTED` says so), each before the orchestrator, which then finds them as it left them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fleet.hosting.host_command_line import LOG, alone, host_command
from fleet.hosting.kinds import Barred

#: In an agent's folder while its host is to run: what a boot brings back.
WANTED: Final = "host.wanted"
#: Seconds in which an agent host must listen, and in which it must have ended when it is asked to.
START_S: Final = 90
STOP_S: Final = 30
#: Seconds after which an orchestrator that failed is started again.
AGAIN_S: Final = 10
_AGAIN: Final = ("Restart=on-failure", f"RestartSec={AGAIN_S}")

_HEADER: Final = (
    "# Written by Muster, and written anew when it changes; put what is yours into a drop-in (systemctl edit).\n"
)


def orchestrator_name(installation: str) -> str:
    """Return the unit of the orchestrator.

    Args:
        installation: tells apart several installations of one person; empty for the usual one.
    """
    return f"{_prefix(installation)}.service"


def egress_name(installation: str) -> str:
    """Return the unit of the egress."""
    return f"{_prefix(installation)}-egress.service"


def agent_name(installation: str, agent: str) -> str:
    """Return the unit of an agent host."""
    return f"{_prefix(installation)}-agent-{agent}.service"


def agent_of(installation: str, unit: str) -> str | None:
    """Return whose unit it is, by its name; None where it is no agent's of this installation."""
    match = re.fullmatch(rf"{re.escape(_prefix(installation))}-agent-([a-z][a-z0-9-]*)\.service", unit)
    return match[1] if match is not None else None


def _prefix(installation: str) -> str:
    return f"muster-{installation}" if installation else "muster"


def agent_unit(*, agent: str, folder: Path, installation: str, variables: Mapping[str, str]) -> str:
    """Return the unit of an agent host.

    Args:
        agent: its name.
        folder: its folder, in which it finds everything else.
        installation: as `orchestrator_name` takes it.
        variables: the whole environment of the agent host.
    """
    command = alone(host_command(folder), variables)
    return _unit(
        f"Muster agent {agent}",
        order=(f"ConditionPathExists={_path(folder / WANTED)}", f"Before={orchestrator_name(installation)}"),
        # Where systemd hears that the agent host listens (sd_notify(3)): the one variable that it must put in itself.
        words=[*map(_word, command[:2]), '"NOTIFY_SOCKET=${NOTIFY_SOCKET}"', *map(_word, command[2:])],
        notifies=True,
        folder=folder,
        given=[f"StandardOutput=append:{_path(folder / LOG)}", f"StandardError=append:{_path(folder / LOG)}"],
        ends=["Restart=no", "Delegate=memory pids", "KillMode=mixed"],
    )


def orchestrator_unit(*, folder: Path, secrets: Path, variables: Mapping[str, str]) -> str:
    """Return the unit of the orchestrator.

    Args:
        folder: where it works.
        secrets: a file of variables that it reads when it is there.
        variables: what it is given besides.
    """
    return _unit(
        "Muster, a fleet of AI coding agents",
        words=_by_env([sys.executable, "-P", "-m", "bot", "up", "--unattended"]),
        folder=folder,
        given=_given(variables, secrets),
        # Agents that run as processes or in tmux are children of this unit's: what ends it must leave them alone.
        ends=[*_AGAIN, "KillMode=process"],
    )


def egress_unit(
    *, installation: str, command: Sequence[str], folder: Path, secrets: Path, variables: Mapping[str, str]
) -> str:
    """Return the unit of the egress, which is there before anybody wants to go out.

    Args:
        installation: as `orchestrator_name` takes it.
        command: its command line.
        folder: where it works; it is there.
        secrets: a file of variables that it reads when it is there.
        variables: what it is given besides.
    """
    return _unit(
        "Muster egress",
        order=(f"Before={orchestrator_name(installation)}",),
        words=_by_env(command),
        folder=folder,
        given=_given(variables, secrets),
        # One that runs already keeps this one out: it stands by, and takes over when that one ends.
        ends=[*_AGAIN, "KillMode=mixed"],
    )


def _unit(
    description: str,
    *,
    words: Sequence[str],
    folder: Path,
    given: Sequence[str],
    ends: Sequence[str],
    order: Sequence[str] = (),
    notifies: bool = False,
) -> str:
    """Return a unit of ours.

    Args:
        description: what people see of it.
        words: the command line, each word as `_word` has it.
        folder: where it works.
        given: what it reads from and writes to, as settings.
        ends: what happens when it ends, and how it is ended, as settings.
        order: when it is started, as settings.
        notifies: it says itself when it has started.
    """
    lines = [
        _HEADER,
        "[Unit]",
        f"Description={description}",
        *order,
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"Type={'notify' if notifies else 'exec'}",
        f"ExecStart={' '.join(words)}",
        f"WorkingDirectory={_path(folder)}",
        *given,
        "UMask=0077",
        *ends,
        "OOMPolicy=continue",
        *([f"TimeoutStartSec={START_S}"] if notifies else []),
        f"TimeoutStopSec={STOP_S}",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _by_env(command: Sequence[str]) -> list[str]:
    """Return a command line by way of env: a variable cannot stand for the program, and so no dollar sign can be
    written in its path."""
    return [_word(word) for word in ("/usr/bin/env", *command)]


def _given(variables: Mapping[str, str], secrets: Path) -> list[str]:
    """Variables, and a file of more that may be there."""
    given = [f"Environment={_word(f'{name}={value}', dollar=False)}" for name, value in variables.items()]
    return [*given, f"EnvironmentFile=-{_path(secrets)}"]


def _word(word: str, *, dollar: bool = True) -> str:
    """Return a word of a command line (systemd.service(5), command lines) or an assignment (systemd.exec(5),
    Environment=)."""
    _check(word)
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + (word.replace("$", "$$") if dollar else word) + '"'


def _path(path: Path) -> str:
    """Return a path that is the whole of a setting."""
    _check(str(path))
    return str(path).replace("%", "%%")


def _check(text: str) -> None:
    if not text.isprintable() or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise Barred(f"A systemd unit cannot hold {text!r}. Choose another place for it, or another hosting.")
