"""The installation: its files, secrets and register, its sockets and disk, and whether it runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel

from bot.config.database import password
from bot.config.instance_lock import holder
from bot.config.loader import Check
from bot.config.paths import Paths
from bot.egress_client import emergency_stop, process
from bot.setup.doctor.finding import PATIENCE, DoctorFinding
from bot.text.errors import UserError
from core.errors import RegisterError
from core.file_permissions import exposed
from core.secret_references import Reference, Unresolved
from core.validation_errors import Problem
from database import migrations
from database.engine import dsn
from egress.http.header_filter import goes_as_key

_STAYS_DOWN: Final = "Muster does not start."
#: Bytes below which a disk counts as nearly full.
LITTLE_SPACE: Final = 1024 * 1024 * 1024


def configuration(checked: Check, paths: Paths) -> Iterator[DoctorFinding]:
    if checked.problems:
        count = len(checked.problems)
        yield DoctorFinding(
            name="configuration",
            state="wrong",
            found=f"{count} problem{'' if count == 1 else 's'}; the first: {checked.problems[0]}",
            costs=_cost_of(checked.problems),
            way="muster config check lists them all.",
        )
    elif not paths.muster_yaml.exists():
        yield DoctorFinding(
            name="configuration",
            state="ok",
            found=f"{paths.muster_yaml} is not there, so all is as by default; `muster init` writes one",
        )
    else:
        agents = len(checked.roster.agents) if checked.roster else 0
        yield DoctorFinding(name="configuration", state="ok", found=f"valid, agents in the roster: {agents}")
    for warning in checked.warnings:
        yield DoctorFinding(name="configuration", state="wrong", found="valid, with a warning", costs=warning)
    for name, reason in (checked.settings.broken if checked.settings else {}).items():
        yield DoctorFinding(name=f"connector {name}", state="wrong", found="cannot be used", costs=reason)


def _cost_of(problems: Sequence[Problem]) -> str:
    if any(problem.file.startswith("muster.yaml") for problem in problems):
        return "Muster does not start."
    return "The roster is not applied, and its persistent agents do not come up."


def secrets(checked: Check, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    for place, reference in references(checked):
        if reference.scheme == "file" and (open_ := exposed(Path(reference.name))):
            yield DoctorFinding(name=place, state="wrong", found=open_, way=f"chmod 600 {reference.name}")
            continue
        try:
            reference.resolve(environ)
        except Unresolved as error:
            yield DoctorFinding(
                name=place,
                state="wrong",
                found=str(error),
                costs=_STAYS_DOWN
                if place.startswith(("forge.", "metrics."))
                else "The connector or account that needs it cannot log in.",
            )
        else:
            yield DoctorFinding(name=place, state="ok", found=f"{reference} holds a secret")


def subscriptions(checked: Check, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Find accounts that are configured as subscriptions but have an API key."""
    for name, account in (checked.settings.accounts if checked.settings else {}).items():
        # A keyring may prompt a person.
        if account.kind != "subscription" or account.credential is None or account.credential.scheme == "keyring":
            continue
        try:
            credential = account.credential.resolve(environ)
        except Unresolved:
            continue
        if goes_as_key(account.provider, credential):
            yield DoctorFinding(
                name=f"accounts.{name}",
                state="wrong",
                found=f"kind: subscription, and {account.credential} holds an API key",
                costs="The provider treats it as an API key and reports no windows of a subscription, so one task "
                "runs at a time.",
                way="Use the subscription's token, which begins with sk-ant-oat, or set `kind: api_key`.",
            )


def references(checked: Check) -> list[tuple[str, Reference]]:
    """Return the references to secrets in both files, by key."""
    found: list[tuple[str, Reference]] = []

    def walk(place: str, value: Any) -> None:
        if isinstance(value, Reference):
            found.append((place, value))
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                walk(f"{place}.{name}", getattr(value, name))
        elif isinstance(value, dict):
            for name, each in value.items():
                walk(f"{place}.{name}", each)
        elif isinstance(value, tuple):
            for index, each in enumerate(value):
                walk(f"{place}[{index}]", each)

    if checked.settings is not None:
        for connector in checked.settings.connectors:
            walk(f"connectors.{connector.name}", connector.settings)
        walk("accounts", dict(checked.settings.accounts))
        walk("register.password", checked.settings.register_password)
        walk("metrics", checked.settings.metrics)
        if (forge := checked.settings.forge) is not None:
            walk("forge.token", forge.token)
            walk("forge.webhooks", forge.webhooks if forge.listens else None)
    for agent in checked.roster.agents if checked.roster else ():
        walk(f"agents[{agent.name}].env", agent.env)
    return found


def register(checked: Check, paths: Paths, environ: Mapping[str, str] | None = None) -> DoctorFinding:
    """Check the register without changing it."""
    place = dsn.parse(checked.settings.register_url if checked.settings else paths.register_url)
    if isinstance(place, dsn.ServerAddress):
        reference = checked.settings.register_password if checked.settings else None
        return _register_on_a_server(place, password(reference, os.environ if environ is None else environ))
    file = place.file
    if not file.exists():
        return DoctorFinding(name="register", state="ok", found=f"{file} will be made at the first start")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        return DoctorFinding(
            name="register",
            state="wrong",
            found=f"{file} cannot be read: {error}",
            costs="Muster does not start.",
            way="Restore it from a backup, or move it away to begin with an empty one.",
        )
    newer = "" if revision == migrations.head() else f", at revision {revision}; this program's is {migrations.head()}"
    return DoctorFinding(name="register", state="ok", found=f"{file} opens{newer}")


def _register_on_a_server(place: dsn.ServerAddress, secret: Callable[[], str] | None) -> DoctorFinding:
    from database.engine.postgres import survey as look

    try:
        survey = asyncio.run(look(place, secret))
    except RegisterError as error:
        return DoctorFinding(name="register", state="wrong", found=str(error), costs="Muster does not start.")
    shown = f"{place} (PostgreSQL {survey.version})"
    if survey.open_to_all:
        return DoctorFinding(
            name="register",
            state="wrong",
            found=f"{shown} takes any password",
            costs="An agent can reach it over the network, and make anyone an admin.",
            way="Let pg_hba.conf ask for a password (scram-sha-256 instead of trust).",
        )
    if not survey.durable:
        return DoctorFinding(
            name="register",
            state="wrong",
            found=f"{shown} does not wait for its disk",
            costs="A power cut can lose the latest messages and work, or damage the whole register.",
            way="Set fsync = on in postgresql.conf.",
        )
    if survey.revision is None:
        return DoctorFinding(name="register", state="ok", found=f"{shown}; its tables will be made at the first start")
    older = "" if survey.revision == migrations.head() else f", at revision {survey.revision}"
    return DoctorFinding(name="register", state="ok", found=f"{shown} opens{older}")


def sockets(paths: Paths) -> DoctorFinding:
    """Check that a unix socket can be created in Muster's folder."""
    folder = paths.sockets
    if not folder.exists():
        return DoctorFinding(name="sockets", state="ok", found=f"{folder} will be made at the first start")
    try:
        paths.check_sockets()
        trial = folder / f"trial-{os.getpid()}.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                listening.bind(str(trial))
            finally:
                trial.unlink(missing_ok=True)
    except (OSError, UserError) as error:
        return DoctorFinding(
            name="sockets",
            state="wrong",
            found=f"none can be made in {folder}: {error}",
            costs="Muster does not start.",
            way="Set MUSTER_HOME to a folder of your own on a local disk.",
        )
    return DoctorFinding(name="sockets", state="ok", found=str(folder))


def disk(paths: Paths, *, free: int | None = None) -> DoctorFinding:
    place = paths.state
    while not place.exists():
        place = place.parent
    left = shutil.disk_usage(place).free if free is None else free
    shown = f"{left / LITTLE_SPACE:.1f} GiB free for {paths.state}"
    if left >= LITTLE_SPACE:
        return DoctorFinding(name="disk", state="ok", found=shown)
    return DoctorFinding(
        name="disk",
        state="wrong",
        found=shown,
        costs="When nothing is left, Muster takes no more messages and denies what agents ask for.",
        way="Make room.",
    )


def egress(paths: Paths) -> DoctorFinding:
    """Check the emergency stop and the egress."""
    if emergency_stop.is_pulled(paths.state):
        return DoctorFinding(
            name="egress",
            state="wrong",
            found="the emergency stop is set",
            costs="No agent reaches a model, or anything else.",
            way="`muster estop --clear` clears it.",
        )
    pid = process.pid_of(paths)
    if pid is None:
        return DoctorFinding(name="egress", state="ok", found="not running; Muster starts it with the first agent")
    if not process.listens(process.places(paths).control):
        return DoctorFinding(
            name="egress",
            state="wrong",
            found=f"running (process {pid}), but it does not answer",
            costs="No agent reaches a model.",
            way=f"Its log is {process.places(paths).log}; as a last resort, `kill -9 {pid}` loses nothing.",
        )
    return DoctorFinding(name="egress", state="ok", found=f"running (process {pid})")


def running(paths: Paths) -> DoctorFinding:
    found = holder(paths.lock) if paths.lock.exists() else None
    if found is None:
        return DoctorFinding(name="Muster", state="ok", found="not running")
    return DoctorFinding(name="Muster", state="ok", found=f"running (process {found.pid} on {found.host})")
