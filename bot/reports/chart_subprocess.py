"""Runs `bot.reports.chart_drawing` in a separate process with a time limit. If it fails, the text is posted alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import structlog

from bot.figures.model import Figure

log = structlog.get_logger(__name__)

#: Time limit of the drawing in seconds, and maximum size of a picture in bytes.
LIMIT_S: Final = 30.0
LARGEST: Final = 300_000
#: Environment variables that the process gets; it needs no others.
_PASSED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZDIR", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartSubprocess:
    """Runner of the drawing process."""

    folder: Path
    """A private folder, the home and working directory of the process."""
    environ: Mapping[str, str]
    program: tuple[str, ...] = (sys.executable, "-P", "-m", "bot.reports.chart_drawing")
    limit_s: float = LIMIT_S
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Lock for one drawing at a time: each takes a processor and memory, and many people may request one."""

    async def picture(self, figure: Figure) -> bytes | None:
        """Return a PNG, or None if there is none; the log has the reason."""
        made = await self._drawn(figure, "png")
        if made is None:
            return None
        if not made.startswith(b"\x89PNG\r\n\x1a\n") or len(made) > LARGEST:
            log.warning("report.not_drawn", reason="what was drawn is no picture, or too large", bytes=len(made))
            return None
        return made

    async def letters(self, figure: Figure) -> str | None:
        """Return lines of text without colors, or None as in `picture`."""
        made = await self._drawn(figure, "text")
        return None if made is None else made.decode(errors="replace")

    async def _drawn(self, figure: Figure, form: Literal["png", "text"]) -> bytes | None:
        try:
            async with asyncio.timeout(self.limit_s):
                await self._one.acquire()
        except TimeoutError:
            log.warning("report.not_drawn", reason=f"others were drawn for {self.limit_s:g} s")
            return None
        try:
            return await self._drawn_now(figure, form)
        finally:
            self._one.release()

    async def _drawn_now(self, figure: Figure, form: Literal["png", "text"]) -> bytes | None:
        given = figure.to_json().encode()
        try:
            await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            process = await asyncio.create_subprocess_exec(
                *self.program,
                form,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.folder,
                env=self._environment(),
            )
        except OSError as error:
            log.warning("report.not_drawn", reason=str(error))
            return None
        try:
            async with asyncio.timeout(self.limit_s):
                out, complaints = await process.communicate(given)
        except TimeoutError:
            log.warning("report.not_drawn", reason=f"it took longer than {self.limit_s:g} s")
            return None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0 or not out:
            said = complaints.decode(errors="replace").strip().splitlines()
            log.warning("report.not_drawn", status=process.returncode, reason=said[-1][:300] if said else "no word")
            return None
        return out

    def _environment(self) -> dict[str, str]:
        passed = {name: self.environ[name] for name in _PASSED if name in self.environ}
        return {**passed, "HOME": os.fspath(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
