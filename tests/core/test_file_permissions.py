"""Who else can read a secret."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from core.file_permissions import exposed


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
def test_a_file_in_open_folders_is_exposed(reachable: Path, mode: int) -> None:
    secret = reachable / "key"
    secret.write_text("hunter2")
    secret.chmod(mode)
    assert exposed(secret) == f"{secret} can be read by every user of this machine (mode {mode:04o})"
    link = reachable / "link"
    link.symlink_to(secret)
    assert exposed(link) is not None


def test_a_closed_file_or_one_in_a_closed_folder_is_not(reachable: Path) -> None:
    secret = reachable / "inside" / "deep" / "key"
    secret.parent.mkdir(parents=True)
    secret.write_text("hunter2")
    secret.chmod(0o600)
    assert exposed(secret) is None
    secret.chmod(0o644)
    assert exposed(secret) is not None
    secret.parent.parent.chmod(0o700)
    assert exposed(secret) is None
    assert exposed(reachable / "nowhere") is None
    (reachable / "circle").symlink_to("circle")
    assert exposed(reachable / "circle") is None


def test_a_link_out_of_a_closed_folder_helps_nobody_hide(reachable: Path) -> None:
    (reachable / "key").write_text("hunter2")
    (reachable / "key").chmod(0o644)
    closed = reachable / "closed"
    closed.mkdir(mode=0o700)
    (closed / "key").symlink_to(reachable / "key")
    assert exposed(closed / "key") is not None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_group_of_others_counts(reachable: Path) -> None:
    secret = reachable / "key"
    secret.write_text("hunter2")
    secret.chmod(0o640)
    assert exposed(secret) is None, "the group that bears the user's name is the user's"
    other = next(each for each in grp.getgrall() if each.gr_gid != 0)
    os.chown(secret, -1, other.gr_gid)
    assert exposed(secret) == f"{secret} can be read by the group {other.gr_name} (mode 0640)"
    reachable.chmod(0o700)
    assert exposed(secret) is None
