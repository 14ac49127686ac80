"""A git folder of Muster's own, which borrows the objects of a person's repository.

Git obeys the settings, hooks, attributes and index of the folder that it opens. In this one they are Muster's, so
neither an agent nor the person's settings say what is run, or what is shown.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fleet.workspace import untrusted_files
from fleet.workspace.repository_discovery import Repository

#: Longer files are binary. The history is what the commits say, and no file beside them.
_SETTINGS: Final = """\
[core]
	repositoryFormatVersion = {version}
	quotePath = false
	bigFileThreshold = 16m
	commitGraph = false
	multiPackIndex = false
[extensions]
	{extension}
"""
#: A repository's attributes may say how lines end, but not which files are not shown, or by which program. These go
#: before its own (gitattributes(5)).
_ATTRIBUTES: Final = "* !diff !filter\n"
_SHA256_DIGITS: Final = 64
_SHALLOW_BYTES: Final = 8 * 1024 * 1024


def make(folder: Path, repository: Repository, *, head: str, digits: int) -> None:
    """Make the git folder.

    Args:
        folder: where; it is empty, or not there.
        repository: whose objects are borrowed.
        head: the full name of the branch that HEAD names.
        digits: how many a commit's hash has there.
    """
    sha256 = digits == _SHA256_DIGITS
    settings = _SETTINGS.format(version=int(sha256), extension="objectFormat = sha256" if sha256 else "")
    for name in ("refs", "info", "objects/info"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text(f"ref: {head}\n")
    (folder / "config").write_text(settings)
    (folder / "info" / "attributes").write_text(_ATTRIBUTES)
    if (shallow := untrusted_files.content(repository.common / "shallow", _SHALLOW_BYTES)) is not None:
        (folder / "shallow").write_bytes(shallow)
    borrowed = "".join(f"{store}\n" for store in repository.stores())
    (folder / "objects" / "info" / "alternates").write_bytes(os.fsencode(borrowed))
