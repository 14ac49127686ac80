from textual.app import App, ComposeResult

from bot.interfaces.tui.widgets.text_pane import TextLine, TextPane
from tests.bot.interfaces.tui.widgets.test_cells import HOSTILE


class Shown(App[None]):
    def __init__(self, *, follows: bool = False) -> None:
        super().__init__()
        self.pane = TextPane(follows=follows)

    def compose(self) -> ComposeResult:
        yield self.pane


def everything(pane: TextPane) -> list[str]:
    """Scroll through all of it."""
    found = []
    for place in range(pane.row_count):
        pane.scroll_to(y=place, animate=False, immediate=True)
        found.append(pane.render_line(place - pane.scroll_offset.y).text)
    return found


async def test_hostile_text_is_shown_whole_and_never_obeyed() -> None:
    app = Shown()
    async with app.run_test(size=(40, 10)) as pilot:
        app.pane.show([TextLine(text) for text in HOSTILE if len(text) < 1_000])
        await pilot.pause()
        shown = "".join(row.rstrip() for row in everything(app.pane)).replace(" ", "")
        assert "[@click=app.quit]click[/]" in shown
        assert "[bold]notbold[/bold]" in shown
        for row in range(10):
            for segment in app.pane.render_line(row):
                assert segment.control is None
                assert segment.style is None or (not segment.style.meta and segment.style.link is None)
                assert "\x1b" not in segment.text


async def test_a_line_of_100_kb_is_shown_to_its_end() -> None:
    app = Shown()
    async with app.run_test(size=(41, 10)) as pilot:
        app.pane.show([TextLine("x" * 99_999 + "!")])
        await pilot.pause()
        app.pane.focus()
        assert app.pane.row_count == 2_500
        await pilot.press("end")
        assert app.pane.render_line(9).text.rstrip().endswith("x!")


async def test_the_end_is_followed_unless_somebody_reads_above() -> None:
    app = Shown(follows=True)
    async with app.run_test(size=(40, 5)) as pilot:
        lines = [TextLine(f"line {number}") for number in range(20)]
        app.pane.show(lines)
        await pilot.pause()
        app.pane.focus()
        app.pane.show([*lines, TextLine("new")])
        await pilot.pause()
        assert "new" in app.pane.render_line(4).text
        await pilot.press("home")
        app.pane.show([*lines, TextLine("new"), TextLine("newer")])
        await pilot.pause()
        assert "line 0" in app.pane.render_line(0).text


async def test_a_new_width_wraps_anew() -> None:
    app = Shown()
    async with app.run_test(size=(40, 5)) as pilot:
        app.pane.show([TextLine("a" * 200)])
        await pilot.pause()
        before = app.pane.row_count
        await pilot.resize_terminal(80, 5)
        await pilot.pause()
        assert before > app.pane.row_count == 3
