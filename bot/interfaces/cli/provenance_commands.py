"""Records of provenance, in a shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.config.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from forge.model.references import IssueReference
    from forge.provenance.verification import AuditEvidence, CommitVerification


@click.command()
@click.argument("commits", metavar="COMMIT")
@click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("."),
    help="A clone of the repository. Default: the current folder.",
)
@click.option(
    "--key", "keys", multiple=True, help="Public keys to trust instead of this installation's, with commas between."
)
@click.option("--audit", is_flag=True, help="Compare the records with the audit log of this installation, too.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found for programs.")
def provenance_verify(commits: str, repository: Path, keys: tuple[str, ...], audit: bool, as_json: bool) -> int:
    """Check the signed records of commits. It fails if one is missing or does not match.

    COMMIT: a commit or a branch, or a range: FROM..TO. Or a pull request of the configured forge: OWNER/REPO#N, or its
    address.

    Of a pull request, commits and records are read from the forge. In a clone, records are in git notes. Fetch them
    first: git fetch origin refs/notes/muster:refs/notes/muster

    For instance: muster provenance verify acme/app#18 --audit
    """
    import asyncio
    import json

    from bot.text.errors import UserError
    from fleet import workspace
    from forge.provenance import git_notes
    from forge.provenance.verification import named_digests, verify

    pull = _pull_request(commits)
    trusted = _trusted(keys)
    if pull is not None:
        return _verify_pull_request(pull, trusted, audit=audit, as_json=as_json)
    found = workspace.find(repository)
    if found is None:
        raise UserError(
            f"No git repository begins in {repository.resolve()}. Name a clone with --repository.",
            code="provenance.repository",
        )
    names = git_notes.commits_of(found, commits)
    notes = git_notes.read(found, names)
    evidence = asyncio.run(_audit(trusted, named_digests(notes))) if audit else None
    verified = verify(notes, names, trusted, evidence)
    click.echo(json.dumps(_as_json(verified, trusted), indent=2) if as_json else _text(verified, audit=audit))
    return 1 if any(each.faults for each in verified) else 0


def _pull_request(text: str) -> IssueReference | None:
    """Return the pull request that was named. Nothing is loaded for what is a commit."""
    from bot.config.loader import load
    from bot.issue_runs.pull_verification import reference_of

    return reference_of(text, load(Paths.of(os.environ)).forge) if "#" in text or "://" in text else None


def _verify_pull_request(reference: IssueReference, trusted: frozenset[str], *, audit: bool, as_json: bool) -> int:
    import asyncio
    import json

    from bot.config.loader import load
    from bot.issue_runs.pull_verification import verify_pull_request

    block = load(Paths.of(os.environ)).forge
    assert block is not None

    async def read_audit(digests: frozenset[str]) -> AuditEvidence:
        return await _audit(trusted, digests)

    read = read_audit if audit else None
    found = asyncio.run(verify_pull_request(block, os.environ, reference, trusted, read))
    fault = found.description
    if as_json:
        shown = None if fault is None else {"code": fault.code, "detail": fault.detail}
        more = {"pull_request": str(reference), "ok": found.is_fine, "description": shown, "notice": found.notice}
        click.echo(json.dumps({**_as_json(found.commits, trusted), **more}, indent=2))
    else:
        said = "shows a record of the same run" if fault is None else f"does not match\n  fault: {fault.detail}"
        lines = [_text(found.commits, audit=audit, fetch=False), f"description: {said}"]
        click.echo("\n".join([*lines, *([f"note: {found.notice}"] if found.notice else [])]))
    return 0 if found.is_fine else 1


def _trusted(keys: Sequence[str]) -> frozenset[str]:
    from bot.text.errors import UserError
    from core.signing.signing_key import SigningKey, is_public_key

    keys = [each.strip() for key in keys for each in key.split(",")]
    for key in keys:
        if not is_public_key(key):
            raise UserError(
                f"{key[:80]!r} is no public key. It begins with ed25519:, and `muster audit verify` shows it there.",
                code="signing_key.invalid",
            )
    if keys:
        return frozenset(keys)
    file = Paths.of(os.environ).signing_key
    if not file.exists():
        raise UserError(
            "This installation has no signing key. Name the key to trust with --key; "
            "`muster audit verify` shows it where the records were made.",
            code="signing_key.absent",
        )
    return frozenset({SigningKey.read(file).public})


async def _audit(trusted: Collection[str], digests: frozenset[str]) -> AuditEvidence:
    from bot.config.database import open_register
    from bot.config.loader import load
    from bot.text.errors import UserError
    from core.signing.signing_key import SigningKey
    from database.engine import dsn
    from database.queries.operations import audit_anchors
    from database.queries.operations.audit_verification import AuditCheck
    from forge.provenance.verification import AuditEvidence

    paths = Paths.of(os.environ)
    settings = load(paths)
    place = dsn.parse(settings.register_url)
    if isinstance(place, dsn.FileAddress) and not place.file.exists():
        raise UserError(
            f"There is no audit log here: {place.file} does not exist. Leave --audit out, or check where the records "
            "were made.",
            code="provenance.no_register",
        )
    ours = {SigningKey.read(paths.signing_key).public} if paths.signing_key.exists() else set()
    register = await open_register(settings, os.environ)
    first: float | None = None
    try:
        async with register.read() as tx:
            check = AuditCheck(await audit_anchors.every(tx), {*trusted, *ours}, looked_for=digests)
            async for line in audit_anchors.lines(tx):
                check.line(line)
                first = float(line.columns["at"]) if first is None else first
    finally:
        await register.close()
    check.end()
    faults = len(check.faults) + check.more_faults
    begins_at = None if check.begins_at is None else check.begins_at if first is None else first
    return AuditEvidence(digests=check.found, faults=faults, begins_at=begins_at)


def _text(verified: Sequence[CommitVerification], *, audit: bool, fetch: bool = True) -> str:
    lines = []
    for each in verified:
        lines.append(f"{each.commit[:12]}: {'does not match' if each.faults else 'matches'}")
        for signed in each.records:
            record = signed.record
            lines.append(f"  written by {record.agent!r} ({record.role!r}, {record.runtime!r}), run {record.run!r}")
        lines += [f"  fault: {fault.detail}" for fault in each.faults]
        lines += [f"  note: {notice}" for notice in each.notices]
    faults = {fault.code for each in verified for fault in each.faults}
    if "key_unknown" in faults:
        lines.append("Keys of your other machines are named with --key; `muster audit verify` shows each there.")
    if audit and "audit_altered" not in faults:
        lines.append("audit log: as Muster wrote it")
    if fetch and "note_missing" in faults:
        lines.append("If records may not be here yet, fetch them: git fetch origin refs/notes/muster:refs/notes/muster")
    return "\n".join(lines)


def _as_json(verified: Sequence[CommitVerification], trusted: Collection[str]) -> Mapping[str, object]:
    return {
        "ok": not any(each.faults for each in verified),
        "keys": sorted(trusted),
        "commits": [
            {
                "commit": each.commit,
                "ok": not each.faults,
                "records": [{"key": signed.key, "record": signed.record.as_json()} for signed in each.records],
                "faults": [{"code": fault.code, "detail": fault.detail} for fault in each.faults],
                "notices": list(each.notices),
            }
            for each in verified
        ],
    }
