"""The sources keep to the layout in docs/CONTRIBUTING.md: small folders with a purpose, and one meaning per name."""

from __future__ import annotations

import ast
import builtins
import gc
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bot", "budget", "conduit", "connectors", "core", "database", "egress", "fleet", "forge", "scheduler")
#: More files than this in one folder are not looked through.
MOST_FILES = 20


@cache
def modules() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of the product, parsed; paths below the root."""
    return _parsed(PACKAGES)


def _parsed(folders: Collection[str]) -> tuple[tuple[Path, ast.Module], ...]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    paths = sorted(path for path in found if "node_modules" not in path.parts)
    gc.disable()  # to look for garbage among a million nodes that stay takes longer than to parse them
    try:
        return tuple((path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)
    finally:
        gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _modules_are_forgotten() -> Iterator[None]:
    """Keep a million nodes from what looks for garbage in the tests that follow."""
    yield
    modules.cache_clear()


def test_no_folder_has_more_files_than_one_looks_through() -> None:
    files = defaultdict(list)
    for path, _ in modules():
        if path.name != "__init__.py":
            files[path.parent].append(path.name)
    assert {str(folder): len(names) for folder, names in files.items() if len(names) > MOST_FILES} == {}


def test_every_folder_says_what_is_in_it() -> None:
    silent = [str(path) for path, tree in modules() if path.name == "__init__.py" and not ast.get_docstring(tree)]
    assert silent == []


def test_an_image_gets_every_package() -> None:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    assert [name for name in PACKAGES if f"!{name}" not in lines] == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path, _ in modules()}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


def test_no_public_class_name_has_two_meanings() -> None:
    where = defaultdict(list)
    for path, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(str(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count, too. `import-linter` looks at folders, and this at files."""
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): tree for path, tree in modules()}
    imports = {name: set(_imported(tree, names.keys())) for name, tree in names.items()}
    while ends := [name for name, found in imports.items() if not found]:
        for name in ends:
            del imports[name]
        imports = {name: found & imports.keys() for name, found in imports.items()}
    assert imports == {}


def _imported(tree: ast.Module, known: Collection[str]) -> Iterator[str]:
    """The modules of ours among what `tree` imports; of a package the module that is taken out of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{each.name}" for each in node.names]
            found = {each if each in known else str(node.module) for each in inside}
        elif isinstance(node, ast.Import):
            found = {each.name for each in node.names}
        else:
            continue
        yield from found & set(known)


#: What loads a library at its first use, because `muster up` answers without it: 40 to 200 ms each.
LOADED_WHEN_USED = {
    "bot.app.wiring.forge",
    "budget.costs.token_prices",
    "database.engine.store",
    "egress.daemon.control_client",
}


def test_imports_for_types_alone_are_on_the_path_of_the_shell_alone() -> None:
    """`muster` starts quickly; everywhere else an import says what a module depends on."""
    script = (
        "import sys; from bot.interfaces.cli.entry import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    loaded: set[str] = set()
    # The help of this width is rendered, so that every command is loaded.
    environ = os.environ | {"COLUMNS": "90"}
    for arguments in (["--help"], ["ps", "--help"], ["ps", "--json"]):
        run = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True
        )
        loaded |= set(run.stderr.splitlines()[-1].split())
    for_types = {
        ".".join(path.with_suffix("").parts)
        for path, tree in modules()
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    }
    assert for_types - loaded == LOADED_WHEN_USED


@pytest.mark.parametrize("package", PACKAGES)
def test_every_test_folder_is_one_of_the_source(package: str) -> None:
    """`tests/` mirrors the source; what is about a whole process or a whole chat system is elsewhere."""
    mirrored = {path.parent for path in (ROOT / "tests" / package).rglob("test_*.py")}
    missing = [folder for folder in mirrored if not (ROOT / folder.relative_to(ROOT / "tests")).is_dir()]
    assert [str(folder.relative_to(ROOT)) for folder in sorted(missing)] == []


#: Where JSON, a third party's object or a command line's value is taken as it comes, and how many such names there are.
#: Between subjects nothing is `Any`.
AS_IT_COMES = {
    "bot/api_client.py": 1,
    "bot/commands/argument_types.py": 2,
    "bot/commands/registry.py": 3,
    "bot/commands/runs.py": 1,
    "bot/commands/services.py": 1,
    "bot/config/checks/cross_checks.py": 4,
    "bot/figures/letters.py": 1,
    "bot/interfaces/api/server.py": 1,
    "bot/interfaces/cli/terminal/chat_client.py": 1,
    "bot/interfaces/cli/main.py": 2,
    "bot/setup/doctor/installation.py": 1,
    "bot/tasks/wait_reasons.py": 1,
    "budget/costs/token_prices.py": 1,
    "scheduler/jobs.py": 1,
}


def test_nothing_between_subjects_is_any() -> None:
    found = dict.fromkeys(AS_IT_COMES, 0)
    for path, tree in modules():
        if path.parts[0] in ("bot", "budget", "scheduler") and (count := sum(map(_bare, ast.walk(tree)))):
            found[str(path)] = count
    assert found == AS_IT_COMES, "who takes less as it comes lowers the number"


def _bare(node: ast.AST) -> int:
    """How many names `node` declares as `Any` and nothing more."""
    annotations: list[ast.expr | None] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = node.args
        annotations = [
            node.returns,
            *(each.annotation for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)),
        ]
    elif isinstance(node, ast.AnnAssign):
        annotations = [node.annotation]
    return sum(each is not None and ast.unparse(each) in ("Any", "Any | None") for each in annotations)


def test_each_refusal_has_a_code() -> None:
    """Programs act on codes, and so do tests: sentences change."""
    bare = [
        f"{path}:{node.lineno}"
        for path, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func) in ("UserError", "FleetError")
        and not any(keyword.arg == "code" for keyword in node.exc.keywords)
    ]
    assert bare == []


def test_each_error_that_a_docstring_names_exists() -> None:
    names = set(dir(builtins))
    raised = []
    for path, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {(each.asname or each.name).rpartition(".")[2] for each in node.names}
            elif isinstance(node, ast.ClassDef):
                names.add(node.name)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                section = (ast.get_docstring(node) or "").partition("Raises:")[2]
                raised += [(name, str(path)) for name in re.findall(r"^    ([A-Z]\w+):", section, re.MULTILINE)]
    assert [each for each in raised if each[0] not in names] == []


#: Documented names that have an underscore so that they meet no field's name, or as a warning.
DOCUMENTED = {"_asdict", "_exit", "_fields", "_replace"}
#: Private names that tests cannot do without.
UNAVOIDABLE = {
    # Before Python 3.12, `signal` writes an error about each handler, and nothing public keeps it from that.
    ("tests/conftest.py", "_int_to_enum"),
    # To fork an agent instead of starting an interpreter: `subprocess` has no other place where that can be done.
    ("tests/forked_hosts.py", "_fork_exec"),
}


def test_tests_use_no_private_names_of_others() -> None:
    """A test that does fails when the inside changes, and passes when what an operator sees breaks."""
    trees = _parsed(["tests"])
    classes = {node.name: node for _, tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = {(str(path), name) for path, tree in trees for name in _private_names(tree, classes)}
    assert found == UNAVOIDABLE


def test_private_names_of_others_are_found_however_they_are_written() -> None:
    tree = ast.parse(
        "from a import _imported\n"
        "b._read, self._outside\n"
        "b._written = 1\n"
        "monkeypatch.setattr(b, '_patched', 1)\n"
        "monkeypatch.setattr('a.b._patched_by_path', 1)\n"
        "replace(b, _given=1)\n"
        "class Own(Base):\n"
        "    def __init__(self): self._own = 1\n"
        "    def of(self, other: Own): return self._own, other._own, self._inherited\n"
        "b.__dict__, b.public\n"
    )
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    assert set(_private_names(tree, classes)) == {
        *("_imported", "_read", "_outside", "_written", "_patched", "_patched_by_path", "_given", "_inherited"),
    }


def _private_names(node: ast.AST, classes: Mapping[str, ast.ClassDef], own: Collection[str] = ()) -> list[str]:
    """The private names of others that are used in `node`.

    Args:
        node: what is searched.
        classes: those of the tests, by name.
        own: what the class around `node` declares itself, and reaches on all its instances.
    """
    names: list[str] = []
    match node:
        case ast.ClassDef():
            own = _declared(node, classes)
        case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
            names = [name]
        case ast.ImportFrom():
            names = [each.name for each in node.names]
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in ("setattr", "delattr", "getattr"):
            names = [str(each.value).rpartition(".")[2] for each in node.args if isinstance(each, ast.Constant)]
    found = [each for each in names if each.startswith("_") and re.fullmatch(r"_[^\W_]\w*", each)]
    found = [each for each in found if each not in DOCUMENTED and each not in own]
    for child in ast.iter_child_nodes(node):
        found += _private_names(child, classes, own)
    return found


def _declared(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> set[str]:
    """What a class of the tests declares, or another one that it is derived from."""
    found = set()
    for each in ast.walk(node):
        match each:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    for base in node.bases:
        parent = classes.get(ast.unparse(base).partition("[")[0].rpartition(".")[2])
        if parent is not None and parent is not node:
            found |= _declared(parent, classes)
    return found
