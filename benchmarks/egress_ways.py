"""The ways from a client to a provider that are compared: none in between, other proxies, and Muster's egress."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from egress.daemon.control_client import EgressControlClient
from egress.errors import EgressUnreachable
from egress.paths import EgressPaths
from egress.settings import AccountSettings, AgentRegistration, EgressSettings, LimitSettings

ROOT = Path(__file__).parents[1]
#: Others' proxies live in virtual environments of their own.
VENVS = ROOT / ".cache" / "bench-venvs"
REQUIREMENTS = {"mitmproxy": ["mitmproxy>=11,<13"], "litellm": ["litellm[proxy]>=1.80,<2"]}
PATH = "/v1/chat/completions"
START_S = 120.0
AGENTS = tuple(f"agent{number}" for number in range(8))


class NotHere(Exception):
    """This way cannot be measured on this machine; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to go it."""

    host: str = "127.0.0.1"
    port: int = 0
    sockets: tuple[str, ...] = ()
    """Unix sockets, instead of host and port."""
    path: str = PATH
    headers: dict[str, str] = field(default_factory=dict)
    pid: int | None = None
    """Of the proxy; None: there is none."""

    def to_json(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "sockets": list(self.sockets),
            "path": self.path,
            "headers": self.headers,
        }

    def processes(self) -> list[psutil.Process]:
        """Return the proxy and its children."""
        if self.pid is None:
            return []
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return what it has used of the processors."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def memory_mb(self) -> float:
        """Return what it holds."""
        return sum(process.memory_info().rss for process in self.processes()) / 1e6


@asynccontextmanager
async def spawned(command: Sequence[str], **more: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, for as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, **more
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def module(name: str, *arguments: str) -> AsyncIterator[tuple[int, int]]:
    """A module of ours that prints its port: its process's id and that."""
    command = (sys.executable, "-m", name, *arguments)
    async with spawned(command, stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(await process.stdout.readline())


@asynccontextmanager
async def bare(upstream: int, folder: Path) -> AsyncIterator[Way]:
    """A proxy on the same library that does nothing else."""
    async with module("benchmarks.bare_proxy", f"http://127.0.0.1:{upstream}") as (pid, port):
        yield Way(port=port, pid=pid)


@asynccontextmanager
async def nginx(upstream: int, folder: Path) -> AsyncIterator[Way]:
    """One worker, connections to the upstream kept alive, nothing buffered."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise NotHere("nginx is not installed (apt-get install nginx-light)")
    port = _free()
    where = folder / "nginx"
    where.mkdir()
    (where / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {where}/pid; error_log {where}/error.log;
        events {{ worker_connections 8192; }}
        http {{
          access_log off; client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
          fastcgi_temp_path {where}/f; uwsgi_temp_path {where}/u; scgi_temp_path {where}/s;
          upstream provider {{ server 127.0.0.1:{upstream}; keepalive 256; }}
          server {{ listen 127.0.0.1:{port} backlog=4096; keepalive_requests 1000000;
            location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
                          proxy_buffering off; proxy_read_timeout 1h; }} }}
        }}"""
    )
    async with spawned((program, "-c", str(where / "nginx.conf"), "-p", str(where))) as process:
        await _answers(port)
        yield Way(port=port, pid=process.pid)


@asynccontextmanager
async def mitmproxy(upstream: int, folder: Path) -> AsyncIterator[Way]:
    """In reverse mode, without an addon."""
    program, port = _program("mitmproxy", "mitmdump"), _free()
    command = (program, "-q", "--mode", f"reverse:http://127.0.0.1:{upstream}", "--listen-host", "127.0.0.1")
    more = ("-p", str(port), "--set", f"confdir={folder / 'mitmproxy'}", "--set", "stream_large_bodies=1")
    async with spawned((*command, *more)) as process:
        await _answers(port)
        yield Way(port=port, pid=process.pid)


@asynccontextmanager
async def litellm(upstream: int, folder: Path) -> AsyncIterator[Way]:
    """One worker without a database: it keeps no ledger at all."""
    program, port = _program("litellm", "litellm"), _free()
    config = folder / "litellm.yaml"
    config.write_text(
        f"""model_list:
  - model_name: gpt-5-mini
    litellm_params: {{model: openai/gpt-5-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-real}}
general_settings: {{master_key: sk-placeholder}}
litellm_settings: {{telemetry: false}}
"""
    )
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
    }
    command = (program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    async with spawned(command, env=environment, stdout=asyncio.subprocess.DEVNULL) as process:
        await _answers(port, process)
        yield Way(port=port, pid=process.pid)


@dataclass(frozen=True, kw_only=True)
class Egress:
    """Ours, and its control socket."""

    loopback: Way
    """A port with a secret path: one agent's."""
    sandboxed: Way
    """The sockets of all agents."""
    client: EgressControlClient

    async def idle(self) -> None:
        """Until nothing is under way any more."""
        async with asyncio.timeout(START_S):
            while (await self.client.status())["streams"]:  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(0.05)


@asynccontextmanager
async def ours(upstream: int, folder: Path) -> AsyncIterator[Egress]:
    """The egress with everything that it has: limits, a durable ledger, an account's credential."""
    paths = EgressPaths(state=folder / "state", sockets=folder / "run")
    command = (sys.executable, "-P", "-m", "egress.process", "--state", str(paths.state), "--sockets")
    async with spawned((*command, str(paths.sockets))) as process, EgressControlClient(paths.control) as client:
        async with asyncio.timeout(START_S):
            while True:
                with contextlib.suppress(EgressUnreachable):
                    await client.status()
                    break
                await asyncio.sleep(0.05)
        account = AccountSettings(
            name="openai", provider="openai", upstream=f"http://127.0.0.1:{upstream}", credential="env:KEY"
        )
        limits = (
            LimitSettings(kind="pool", scope="host", amount=1e15, window="day"),
            LimitSettings(kind="pool", scope="account:openai", amount=1e15, window="5h"),
            LimitSettings(kind="allowance", scope="host", amount=1e15),
        )
        settings = EgressSettings(host="bench", accounts=(account,), limits=limits, revision="1")
        await client.settings(settings, {"env:KEY": "sk-real"})
        addresses = [await client.register(_registration(name, "unix")) for name in AGENTS]
        alone = await client.register(_registration("alone", "port"))
        assert alone.url is not None
        place, _, token = alone.url.removeprefix("http://").partition("/")
        host, _, port = place.partition(":")
        yield Egress(
            loopback=Way(host=host, port=int(port), path=f"/{token}/openai{PATH}", pid=process.pid),
            sandboxed=Way(
                sockets=tuple(str(address.socket) for address in addresses), path=f"/openai{PATH}", pid=process.pid
            ),
            client=client,
        )


def install(name: str) -> None:
    """Make sure of a virtual environment with someone else's proxy.

    Raises:
        NotHere: it cannot be installed.
    """
    folder = VENVS / name
    if (folder / ".installed").exists():
        return
    print(f"Installing {name} into {folder} ...", file=sys.stderr)
    pip = (str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    try:
        subprocess.run((sys.executable, "-m", "venv", "--clear", str(folder)), check=True)
        subprocess.run((*pip, *REQUIREMENTS[name]), check=True, timeout=1_200)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHere(f"{name} cannot be installed: {error}") from None
    (folder / ".installed").touch()


def _registration(name: str, listener: Any) -> AgentRegistration:
    return AgentRegistration(
        agent=name, launch_id=f"launch-{name}", role="coder", accounts={"openai": "openai"}, listener=listener
    )


def _program(environment: str, name: str) -> str:
    install(environment)
    return str(VENVS / environment / "bin" / name)


def _free() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def _answers(port: int, process: asyncio.subprocess.Process | None = None) -> None:
    """Until something listens there."""
    try:
        async with asyncio.timeout(START_S):
            while True:
                if process is not None and process.returncode is not None:
                    raise NotHere(f"it ended at once, with exit status {process.returncode}")
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotHere(f"nothing answered on its port within {START_S:g} s") from None
