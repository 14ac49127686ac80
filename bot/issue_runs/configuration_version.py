"""Which configuration was in force: its digest, and the commit that has it if muster.yaml is in a repository."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import quote

from core.errors import MusterError
from fleet.workspace import find, repository_refs
from forge.clients.address import ForgeAddress
from forge.model.references import RepositoryName
from forge.provenance import git_notes
from forge.provenance.record import RecordedConfiguration

_PAGE: Final = {"gitea": "{base}/{name}/src/commit/{sha}/{path}", "github": "{base}/{name}/blob/{sha}/{path}"}


def configuration_of(digest: str | None, file: Path, kind: str, address: str) -> RecordedConfiguration | None:
    """Return the record of the configuration in force; None: there is no file. Blocking.

    The version is the checked-out commit, if it has exactly this text. Its page is named only if the repository was
    fetched from the forge itself: another address may be nobody's business.

    Args:
        digest: of the text that was loaded.
        file: muster.yaml.
        kind: of the forge.
        address: the forge's.
    """
    if digest is None:
        return None
    try:
        version, url = _version(digest, file, kind, address)
    except (MusterError, OSError, ValueError):
        version = url = None
    return RecordedConfiguration(digest=f"sha256:{digest}", version=version, url=url)


def _version(digest: str, file: Path, kind: str, address: str) -> tuple[str | None, str | None]:
    real = file.resolve()
    repository = find(real.parent)
    if repository is None or not real.is_relative_to(repository.folder):
        return None, None
    sha, path = repository_refs.head(repository), real.relative_to(repository.folder).as_posix()
    if sha is None:
        return None, None
    shown = git_notes.run_local(repository.common, ("cat-file", "blob", f"{sha}:{path}"))
    if shown.status != 0 or hashlib.sha256(shown.output).hexdigest() != digest:
        return None, None
    origin = git_notes.run_local(repository.common, ("config", "--get", "remote.origin.url")).said.strip()
    return sha, page_of(origin, sha, path, kind, address)


def page_of(origin: str, sha: str, path: str, kind: str, address: str) -> str | None:
    """Return the page of a file in a commit, or None if the repository is not one of this forge. Pure."""
    base = ForgeAddress.parse(address).url
    if not origin.startswith(f"{base}/"):
        return None
    try:
        name = RepositoryName.parse(origin.removeprefix(f"{base}/").removesuffix(".git"))
    except ValueError:
        return None
    return _PAGE[kind].format(base=base, name=name, sha=sha, path=quote(path))
