"""Git over HTTP with a forge's token.

The token reaches git through a pipe that only this git and its children inherit. A credential helper that is one line
of shell reads it there, once, and only for the forge's own address. So the token is in no argument, no environment, no
URL and no file. ``http.extraHeader`` in the environment was declined: other processes of the same user can read it for
as long as git runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from core.network.loopback import is_loopback
from fleet.workspace import sandboxed_git
from fleet.workspace.sandboxed_git import Done
from forge.publishing.errors import PublishingError

#: What holds for every connection, whatever else is set anywhere.
_SETTINGS: Final = {
    "http.followRedirects": "false",
    "http.sslVerify": "true",
    "http.proxy": "",
    "http.lowSpeedLimit": "100",
    "http.lowSpeedTime": "60",
    "http.maxRequests": "1",
    "push.gpgSign": "false",
    "push.followTags": "false",
    "push.recurseSubmodules": "no",
    "push.useBitmaps": "false",
    "pack.threads": "1",
    "core.bigFileThreshold": "1m",
    "advice.pushUpdateRejected": "false",
}
_MOST_WORDS: Final = 500
#: Forges read the account from the token, and only require that there is a name.
_USER: Final = "muster"


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgeRemote:
    """A repository at a forge, and the account that is used there."""

    url: str
    """Over HTTP, without credentials, such as ``https://forge.example/owner/repo.git``."""
    token: str = field(repr=False)
    ca_file: Path | None = None
    """The certificate of an authority of one's own; None: those of the system."""
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.password:
            raise PublishingError(
                "The address of a repository has to be https://HOST/OWNER/REPOSITORY.git, without name and password.",
                code="publishing.bad_address",
            )
        if parts.query or parts.fragment or any(not sign.isprintable() or sign in " \\'\"" for sign in self.url):
            raise PublishingError(
                f"The address {self.url[:200]!r} has characters that no repository's address has. Correct it.",
                code="publishing.bad_address",
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise PublishingError(
                f"{self.url[:200]} is not encrypted, so others could read the token. Write https://.",
                code="publishing.not_encrypted",
            )
        if not self.token or not self.token.isprintable():
            raise PublishingError(
                "The token of the forge's account is empty or has characters that none has. Correct it.",
                code="publishing.bad_credential",
            )

    def run(
        self,
        *arguments: str,
        git_dir: Path,
        settings: Sequence[str] = (),
        file_bytes: int | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Done:
        """Run git on a folder of Muster's own, with the token for this remote and no other.

        Raises:
            GitFailed: it took too long, or said too much.
        """
        parts = urlsplit(self.url)
        environment = {**sandboxed_git.ENVIRONMENT, "GIT_ALLOW_PROTOCOL": parts.scheme}
        with _pipe(f"username={_USER}\npassword={self.token}\n") as credential:
            helper = f'!f() {{ test "$1" = get && cat /dev/fd/{credential}; }}; f'
            values = {**_SETTINGS, f"credential.{parts.scheme}://{parts.netloc}.helper": helper}
            if self.ca_file is not None:
                values["http.sslCAInfo"] = str(self.ca_file)
            words = (word for name, value in values.items() for word in ("-c", f"{name}={value}"))
            return sandboxed_git.run(
                sandboxed_git.pinned(*words, *settings, *arguments, git_dir=git_dir),
                timeout_s=self.timeout_s,
                file_bytes=file_bytes,
                environment=environment,
                given_up=given_up,
                inherited=(credential,),
            )

    def cleaned(self, said: str) -> str:
        """Return what a remote said, as it can be shown: bounded, in one line, without the token."""
        text = said.replace(self.token, "[redacted]")
        lines = [line.removeprefix("remote:").strip() for line in re.split(r"[\r\n]+|\x1b\[[0-9;]*[A-Za-z]", text)]
        plain = " ".join(line for line in lines if line)
        return "".join(sign for sign in plain if unicodedata.category(sign)[0] != "C")[:_MOST_WORDS]


@contextlib.contextmanager
def _pipe(text: str) -> Iterator[int]:
    """The reading end of a pipe with a text that can be read once."""
    reading, writing = os.pipe()
    try:
        try:
            # A pipe takes a page without a reader (PIPE_BUF, pipe(7)), and a token is shorter.
            os.set_blocking(writing, False)
            os.write(writing, text.encode())
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)
