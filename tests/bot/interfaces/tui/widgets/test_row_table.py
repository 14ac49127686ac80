from dataclasses import dataclass, replace

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from bot.interfaces.tui.widgets.row_table import RowTable, TableColumn, TableShape, fit


@dataclass(frozen=True)
class Thing:
    name: str
    size: int


SHAPE = TableShape[Thing](
    columns=(
        TableColumn(title="NAME", width=8, grows=1, order=lambda t: (t.name,), cell=lambda t, _: (t.name, "")),
        TableColumn(
            title="SIZE", width=4, right=True, order=lambda t: (-t.size,), cell=lambda t, _: (str(t.size), "good")
        ),
        TableColumn(title="LATER", width=9, rank=1, cell=lambda t, now: (f"{now}", "dim")),
    ),
    key=lambda t: t.name,
    words=lambda t: t.name,
)


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.table = RowTable(SHAPE, clock=lambda: 1.0)
        self.chosen: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_row_table_chosen(self, event: RowTable.Chosen) -> None:
        self.chosen.append(event.key)


def rows(app: Shown) -> list[str]:
    height = app.size.height
    return [app.table.render_line(y).text.rstrip() for y in range(height)]


def names(app: Shown) -> list[str]:
    return [thing.name for thing in app.table.rows]


async def started(pilot: Pilot[None], app: Shown, count: int = 1_000) -> None:
    app.table.show([Thing(f"agent{number:04}", number % 7) for number in range(count)])
    app.table.focus()
    await pilot.pause()


def test_columns_that_do_not_fit_are_left_out_by_rank() -> None:
    assert [column.title for column, _ in fit(SHAPE.columns, 80)] == ["NAME", "SIZE", "LATER"]
    assert [column.title for column, _ in fit(SHAPE.columns, 20)] == ["NAME", "SIZE"]
    assert sum(width for _, width in fit(SHAPE.columns, 80)) == 78


async def test_the_cursor_stays_on_its_row_when_rows_come_and_go() -> None:
    app = Shown()
    async with app.run_test(size=(60, 10)) as pilot:
        await started(pilot, app, 20)
        await pilot.press("down", "down", "j", "k")
        assert app.table.selected == Thing("agent0002", 2)
        app.table.show([Thing("aaa", 1), *app.table.items])
        assert app.table.selected == Thing("agent0002", 2)
        app.table.show([thing for thing in app.table.items if thing.name != "agent0002"])
        selected = app.table.selected
        assert selected is not None
        assert selected.name == "agent0003", "the row that took its place"


async def test_keys_move_sort_and_open() -> None:
    app = Shown()
    async with app.run_test(size=(60, 10)) as pilot:
        await started(pilot, app, 30)
        await pilot.press("G", "enter")
        await pilot.press("g", "pagedown", "enter")
        await pilot.pause()
        assert app.chosen == ["agent0029", "agent0008"]
        await pilot.press("o", "o")
        assert [thing.size for thing in app.table.rows[:3]] == [6, 6, 6]
        await pilot.press("O")
        assert [thing.size for thing in app.table.rows[:3]] == [0, 0, 0]
        await pilot.press("o")
        assert names(app)[:2] == ["agent0000", "agent0001"], "as at first"


async def test_the_mouse_chooses_sorts_and_opens() -> None:
    app = Shown()
    async with app.run_test(size=(60, 10)) as pilot:
        await started(pilot, app, 5)
        await pilot.click(RowTable, offset=(2, 3))
        selected = app.table.selected
        assert selected is not None
        assert selected.name == "agent0002"
        await pilot.click(RowTable, offset=(2, 4), times=2)
        assert app.chosen == ["agent0003"]
        await pilot.click(RowTable, offset=(2, 0))
        await pilot.click(RowTable, offset=(2, 0))
        assert names(app)[0] == "agent0004", "by name, reversed"


async def test_a_filter_finds_all_its_words() -> None:
    app = Shown()
    async with app.run_test(size=(60, 10)) as pilot:
        await started(pilot, app)
        app.table.filter("Agent 77")
        assert names(app) == [
            f"agent{number:04}" for number in (77, 177, 277, 377, 477, 577, 677, *range(770, 780), 877, 977)
        ]
        app.table.filter("nobody")
        await pilot.pause()
        assert rows(app)[1] == "Nothing matches 'nobody'."
        assert app.table.selected is None
        await pilot.press("enter", "down")
        assert app.chosen == []


async def test_an_empty_table_does_not_claim_to_know_that() -> None:
    app = Shown()
    async with app.run_test(size=(60, 10)) as pilot:
        await pilot.pause()
        assert rows(app)[1] == "Nothing is known yet."
        app.table.show([])
        await pilot.pause()
        assert rows(app)[1] == "Nothing here."


async def test_a_change_of_one_row_keeps_the_place() -> None:
    app = Shown()
    async with app.run_test(size=(60, 10)) as pilot:
        await started(pilot, app)
        await pilot.press("G")
        before = rows(app)
        app.table.show([replace(thing, size=99) if thing.name == "agent0999" else thing for thing in app.table.items])
        await pilot.pause()
        after = rows(app)
        assert [row for row in after if row not in before] == [after[-1]]
        assert "99" in after[-1]
