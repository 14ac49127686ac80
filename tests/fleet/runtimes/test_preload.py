"""What Muster loads into runtimes, run by Node.js where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import fleet

EXTENSION = Path(fleet.__file__).parent / "preload" / "pi.mjs"

#: Stands for pi: has the extension decide over each call, with a person who answers as told.
PI = """
import extension from %(extension)s;
const [workspace, hasUI, answer, ...calls] = JSON.parse(process.argv[1]);
let decide;
extension({ on: (event, handler) => { if (event === "tool_call") decide = handler; } });
const asked = [];
const ui = { confirm: async (title, message) => { asked.push([title, message]); return answer; } };
const decided = [];
for (const [toolName, input] of calls) {
  decided.push((await decide({ toolName, input }, { cwd: workspace, hasUI, ui }))?.block ?? false);
}
console.log(JSON.stringify({ asked, decided }));
"""

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")


def decide(
    workspace: Path, *calls: tuple[str, object], answer: object = True, reachable: bool = True
) -> tuple[list[list[str]], list[bool]]:
    """What a person was asked, and which of the calls were blocked."""
    program = PI % {"extension": json.dumps(EXTENSION.as_uri())}
    arguments = json.dumps([str(workspace), reachable, answer, *calls])
    ran = subprocess.run(
        ["node", "--input-type=module", "-e", program, arguments], capture_output=True, check=True, text=True
    )
    said = json.loads(ran.stdout)
    return said["asked"], said["decided"]


def test_pi_asks_before_whatever_does_more_than_read(tmp_path: Path) -> None:
    calls = (
        ("bash", {"command": "touch made"}),
        ("bash", {"command": "rm -rf \\\n  /", "timeout": 5}),
        ("write", {"path": "a", "content": "words"}),
        ("something-new", None),
    )
    asked, blocked = decide(tmp_path, *calls)
    assert [tool for tool, _ in asked] == [tool for tool, _ in calls]
    assert asked[0][1] == "touch made"
    assert asked[1][1].startswith("rm -rf \\\n  /\n{"), "the whole of it, as it is"
    assert '"timeout": 5' in asked[1][1]
    assert '"content": "words"' in asked[2][1]
    assert blocked == [False] * 4
    for answer in (False, None, "yes"):
        assert decide(tmp_path, *calls, answer=answer)[1] == [True] * 4
    assert decide(tmp_path, *calls, reachable=False) == ([], [True] * 4)


def test_pi_reads_in_its_workspace_unasked_and_nowhere_else(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "file").write_text("words")
    (tmp_path / "precious").write_text("words")
    (workspace / "link").symlink_to(tmp_path / "precious")
    # What has these names here is something else to pi.
    for name in ("~", "@", "a\u00a0b"):
        (workspace / name).mkdir()
        (workspace / name / "file").write_text("words")
    inside = [("read", {"path": "file"}), ("ls", {}), ("grep", {"pattern": "x", "path": str(workspace)})]
    assert decide(workspace, *inside, answer=False) == ([], [False] * 3)
    outside = [
        ("read", {"path": "../precious"}),
        ("read", {"path": str(tmp_path / "precious")}),
        ("read", {"path": "link"}),
        ("read", {"path": "~/.ssh/id_ed25519"}),
        ("read", {"path": "~/file"}),
        ("read", {"path": "@/file"}),
        ("read", {"path": "a\u00a0b/file"}),
        ("read", {"file_path": str(tmp_path / "precious")}),
        ("read", {"path": ["file"]}),
        ("find", {"pattern": "*", "path": ".."}),
        ("ls", {"path": str(tmp_path / "workspace-of-another")}),
    ]
    asked, blocked = decide(workspace, *outside, answer=False)
    assert (len(asked), blocked) == (len(outside), [True] * len(outside))
