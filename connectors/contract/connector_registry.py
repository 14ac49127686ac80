"""Which kinds of connectors there are, and how one is made.

The kinds that ship with Muster are known here, so that a source checkout works uninstalled. Others come from installed
packages by the entry point group ``muster.connectors``: the name is the word in ``muster.yaml``, the object is a class
that follows `connectors.contract.connector_protocol.Connector`, is made with ``(name, settings, folder)``, and may have
an attribute ``SettingsModel``, a pydantic model of its block in ``muster.yaml``. Nothing is imported before it is asked
for.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from connectors.contract.connector_protocol import Connector
from core.errors import MusterError

ENTRY_POINTS = "muster.connectors"

BUILT_IN: Mapping[str, str] = {
    "discord": "connectors.discord.connector:DiscordConnector",
    "matrix": "connectors.matrix.connector:MatrixConnector",
    "memory": "connectors.memory:MemoryConnector",
    "terminal": "connectors.terminal.connector:TerminalConnector",
    "tmux": "connectors.tmux.connector:TmuxConnector",
}

#: Settings that can be had without importing the connector, which may bring a whole chat library along.
_SETTINGS: Mapping[str, str | None] = {
    "discord": "connectors.discord.settings:DiscordSettings",
    "matrix": "connectors.matrix.settings:MatrixSettings",
    "memory": None,
    "terminal": "connectors.terminal.settings:TerminalSettings",
    "tmux": "connectors.tmux.settings:TmuxSettings",
}


class UnknownKind(MusterError):
    """No connector of such a kind is installed."""

    code = "connector.unknown"

    def __init__(self, kind: str) -> None:
        known = kinds()
        close = difflib.get_close_matches(kind, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"no kind of connector is called {kind!r}.{hint} Known are {', '.join(known)}.")


class BrokenKind(MusterError):
    """A connector is installed but cannot be used; the message says why."""

    code = "connector.broken"


class NoSettings(BaseModel):
    """The settings of a connector that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds, in alphabetical order. Those that cannot be imported are among them."""
    return tuple(sorted({*BUILT_IN, *_third_parties()}))


def settings_model(kind: str) -> type[BaseModel]:
    """Return the model of the block in ``muster.yaml``.

    Raises:
        UnknownKind: there is no such kind.
        BrokenKind: its package fails to import.
    """
    if kind in _SETTINGS:
        place = _SETTINGS[kind]
        return NoSettings if place is None else cast("type[BaseModel]", _load(kind, place))
    model = getattr(connector_class(kind), "SettingsModel", NoSettings)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise BrokenKind(f"the connector {kind!r} has a SettingsModel that is no pydantic model: tell its author.")
    return model


def connector_class(kind: str) -> type[Connector]:
    """Return the class of a kind, imported.

    Raises:
        UnknownKind: there is no such kind.
        BrokenKind: its package fails to import.
    """
    if kind in BUILT_IN:
        return cast("type[Connector]", _load(kind, BUILT_IN[kind]))
    entry = _third_parties().get(kind)
    if entry is None:
        raise UnknownKind(kind)
    return cast("type[Connector]", _load(kind, entry.value))


def make(kind: str, name: str, settings: BaseModel, folder: Path, **services: Any) -> Connector:
    """Return a connector, not started.

    Args:
        kind: its kind.
        name: its name in ``muster.yaml``.
        settings: an instance of the kind's `settings_model`.
        folder: where it keeps what is its own; made 0700.
        services: what else it may use, by the names of its constructor's arguments; what it does not name it does
            not get.

    Raises:
        UnknownKind: there is no such kind.
        BrokenKind: its package fails to import, or it could not be made.
    """
    made_by = connector_class(kind)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        known = inspect.signature(made_by).parameters
        wanted = {key: value for key, value in services.items() if key in known}
        return cast("Any", made_by)(name, settings, folder, **wanted)  # type: ignore[no-any-return]
    except MusterError:
        raise
    except Exception as error:
        raise BrokenKind(f"the connector {kind!r} could not be made: {type(error).__name__}: {error}") from error


def _third_parties() -> dict[str, EntryPoint]:
    # A package cannot take the name of a kind that ships with Muster.
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in BUILT_IN}


def _load(kind: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        # Code of others runs here: whatever it raises, the other connectors go on.
        raise BrokenKind(
            f"the connector {kind!r} ({place}) fails to import: {type(error).__name__}: {error}. Reinstall or update "
            "the package that it comes from."
        ) from error
    return found
