"""Who may do what: the command's word goes before the file's, and the owner's place cannot be taken."""

import getpass
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.app import connectors
from bot.auth.owner import owner_identity
from bot.auth.permission import ADMIN, NONE, OPERATOR, VIEWER
from bot.auth.permissions import Authority, Operators
from bot.config.loader import load
from bot.config.paths import Paths
from bot.text.errors import UserError
from core.crash_points import declare
from database.engine.store import Store
from database.queries.chat import operator_permissions as queries
from database.queries.chat.operator_permissions import OperatorRow

SET = declare("test.set")
ANA = "matrix:@ana:example.org"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    yield store
    await store.close()


def row(permission: str, identity: str = ANA) -> OperatorRow:
    return OperatorRow(identity=identity, permission=permission, set_by="terminal:root", set_at=1.0)


async def put(store: Store, operators: Operators, given: OperatorRow) -> None:
    async with store.write(SET) as tx:
        await operators.put(tx, given)
    operators.refresh()


async def test_strangers_have_nothing_and_the_owner_everything(store: Store) -> None:
    operators = Operators(store, {ANA: VIEWER})
    assert await operators.permission("matrix:@eve:example.org") is NONE
    assert await operators.permission(owner_identity()) is ADMIN
    assert await operators.permission(ANA) is VIEWER


async def test_a_command_goes_before_the_file_and_outlives_the_process(store: Store) -> None:
    operators = Operators(store, {ANA: ADMIN})
    for word, permission in (("none", NONE), ("operator", OPERATOR)):
        await put(store, operators, row(word))
        assert await operators.permission(ANA) is permission
    assert await Operators(store, {ANA: ADMIN}).permission(ANA) is OPERATOR


async def test_identities_are_matched_to_the_letter(store: Store) -> None:
    operators = Operators(store, {ANA: ADMIN})
    for other in (ANA.upper(), ANA + " ", "discord:@ana:example.org", ANA + "\u200b"):
        assert await operators.permission(other) is NONE


async def test_a_permission_that_a_newer_muster_knows_is_none(store: Store) -> None:
    async with store.write(SET) as tx:
        await queries.put(tx, row("emperor"))
    assert await Operators(store, {ANA: ADMIN}).permission(ANA) is NONE


async def test_the_owner_stays_admin(store: Store) -> None:
    operators = Operators(store, {})
    with pytest.raises(UserError, match="always admin"):
        await put(store, operators, row("none", owner_identity()))
    async with store.write(SET) as tx:
        await queries.put(tx, row("none", owner_identity()))
    operators.refresh()
    assert await operators.permission(owner_identity()) is ADMIN


async def test_a_change_that_was_undone_leaves_nothing(store: Store) -> None:
    operators = Operators(store, {})

    async def half() -> None:
        async with store.write(SET) as tx:
            await operators.put(tx, row("admin"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await half()
    operators.refresh()
    assert await operators.permission(ANA) is NONE


async def test_a_permission_that_is_taken_while_the_table_is_being_read_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators = Operators(store, {}, owners=())
    await put(store, operators, row("admin"))
    every = queries.every

    async def slowly(tx: AsyncConnection) -> list[OperatorRow]:
        found = await every(tx)
        if found[0].permission == "admin":
            await put(store, operators, row("none"))
        return found

    monkeypatch.setattr(queries, "every", slowly)
    assert await operators.permission(ANA) is NONE
    assert await operators.permission(ANA) is NONE


ROLE, OTHER = "discord:role:12345678901234567", "discord:role:22345678901234567"
BO = "discord:32345678901234567"


async def test_a_group_gives_everybody_in_it_the_highest_of_its_permissions(store: Store) -> None:
    operators = Operators(store, {ROLE: VIEWER, OTHER: OPERATOR})
    both = (ROLE.partition(":")[2], OTHER.partition(":")[2])
    assert await operators.permission(BO) is NONE
    assert await operators.permission(BO, both[:1]) is VIEWER
    assert await operators.permission(BO, both) is OPERATOR
    # A group of one chat system is none of another.
    assert await operators.permission("matrix:@bo:example.org", both) is NONE
    await put(store, operators, row("none", OTHER))
    assert await operators.permission(BO, both) is VIEWER
    await put(store, operators, row("admin", ROLE))
    assert await operators.permission(BO, both) is ADMIN


async def test_by_which_group_somebody_may_is_named(store: Store) -> None:
    operators = Operators(store, {ROLE: VIEWER, OTHER: OPERATOR, ANA: ADMIN})
    both = (ROLE.partition(":")[2], OTHER.partition(":")[2])
    assert await operators.authority(BO, both) == Authority(permission=OPERATOR, through=OTHER)
    assert await operators.authority(BO, both[:1]) == Authority(permission=VIEWER, through=ROLE)
    # Where it is theirs, or nobody's, no group stands for it.
    for person, groups, permission in ((ANA, both, ADMIN), (BO, (), NONE), (BO, ("role:9",), NONE)):
        assert await operators.authority(person, groups) == Authority(permission=permission)


async def test_what_is_said_of_a_person_goes_before_their_groups(store: Store) -> None:
    operators = Operators(store, {ROLE: ADMIN, BO: VIEWER})
    groups = (ROLE.partition(":")[2],)
    assert await operators.permission(BO, groups) is VIEWER
    await put(store, operators, row("none", BO))
    assert await operators.permission(BO, groups) is NONE


def test_whoever_runs_muster_owns_every_place_that_is_this_users_alone(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    matrix = "{kind: matrix, homeserver: 'https://x', user: '@m:x', access_token: env:T}"
    paths.muster_yaml.write_text(f"connectors:\n  pane: {{kind: tmux}}\n  desk: {{kind: terminal}}\n  far: {matrix}\n")
    me = getpass.getuser()
    assert connectors.owners(load(paths)) == {f"terminal:{me}", f"pane:{me}", f"desk:{me}"}
