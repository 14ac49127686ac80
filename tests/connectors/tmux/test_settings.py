from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.tmux.settings import TmuxSettings
from fleet.name_rules import is_agent_name


def test_without_a_word_it_is_tmux_own_default_server() -> None:
    settings = TmuxSettings()
    assert settings.socket is None
    assert not is_agent_name(settings.session), "no agent's session is ever called so"


@pytest.mark.parametrize("socket", ["work", "w.2", "/run/user/1000/tmux.sock", "~/tmux.sock"])
def test_a_server_is_a_name_or_a_path(socket: str) -> None:
    found = TmuxSettings(socket=socket).socket
    assert found is not None
    assert found == socket or found.startswith("/")


@pytest.mark.parametrize("socket", ["", "-x", "a b", "sub/folder", "/tmp/\x1b", "/" + "x" * 107, "#(id)"])
def test_what_is_neither_is_refused(socket: str) -> None:
    with pytest.raises(ValidationError):
        TmuxSettings(socket=socket)


@pytest.mark.parametrize(
    "name", ["", "#(touch x)", "#{pid}", "a:b", "a.b", "=a", "$1", "@1", "a b", "-a", "a;", "x" * 41]
)
def test_names_that_tmux_would_read_otherwise_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        TmuxSettings(session=name)
    with pytest.raises(ValidationError, match="letters, digits"):
        TmuxSettings(window=name)
