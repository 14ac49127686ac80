"""Lines of a diff have the file and the numbers that they have there."""

from __future__ import annotations

from bot.interfaces.web.diff_lines import diff_lines

DIFF = """\
diff --git a/x b/x
--- a/x
+++ b/x
@@ -1,2 +1,2 @@ def f():
--- not a header
+<b>
 same
@@ -9 +9,2 @@
 nine
+++ ten
\\ No newline at end of file
diff --git a/old b/old
deleted file mode 100644
--- a/old
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git "a/\\303\\251" "b/\\303\\251"
--- "a/\\303\\251"
+++ "b/\\303\\251"
@@ -0,0 +1 @@
+new"""


def test_a_diff_is_read_by_what_its_lines_are() -> None:
    kinds = [(line.kind, line.text) for line in diff_lines(DIFF)[:12]]
    assert kinds == [
        ("file", "diff --git a/x b/x"), ("file", "--- a/x"), ("file", "+++ b/x"), ("hunk", "@@ -1,2 +1,2 @@ def f():"),
        ("removed", "--- not a header"), ("added", "+<b>"), ("same", " same"), ("hunk", "@@ -9 +9,2 @@"),
        ("same", " nine"), ("added", "+++ ten"), ("same", "\\ No newline at end of file"),
        ("file", "diff --git a/old b/old"),
    ]  # fmt: skip


def test_each_line_has_its_file_and_its_numbers() -> None:
    assert [(line.file, line.old, line.new) for line in diff_lines(DIFF) if line.is_of_file] == [
        ("x", 1, None), ("x", None, 1), ("x", 2, 2), ("x", 9, 9), ("x", None, 10), ("old", 1, None),
        ('"\\303\\251"', None, 1),
    ]  # fmt: skip
