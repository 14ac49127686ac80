"""What an agent tries to get to the forge, and what an operator is told of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from core.secret_values import SecretValues
from fleet.workspace import sandboxed_git
from forge.publishing import checks, listing_reader
from forge.publishing.branch_review import BranchReview
from forge.publishing.errors import BranchTooLarge
from forge.publishing.findings import FindingKind
from forge.publishing.incoming import IncomingBounds
from forge.publishing.listing import CommitIdentity
from forge.publishing.rules import PublishingRules
from tests.fleet.workspace.test_hostile import traps
from tests.forge.publishing.stage import AGENT, SCAN, SECRET, Stage

RULES = PublishingRules(identity=AGENT, issue=17)


def told(review: BranchReview) -> str:
    return "\n".join(finding.sentence for finding in review.findings)


def test_ordinary_work_may_be_pushed(stage: Stage) -> None:
    stage.commits("mkdir src; echo 'print(1)' > src/app.py; ln -s app.py src/main.py", "Fixes #17.")
    stage.commits("echo 'print(2)' >> src/app.py; git mv src/app.py src/run.py; chmod +x src/run.py")
    review = stage.review()
    assert review.findings == ()
    assert review.may_be_pushed
    assert [commit.message for commit in review.listing.commits] == ["Fixes #17.\n", "Work.\n"]


def test_a_secret_in_a_middle_commit_is_found_though_the_last_one_removes_it(stage: Stage) -> None:
    stage.commits("echo start > a")
    middle = stage.commits(f"printf 'one\\nkey = \"{SECRET}\"\\n' > settings.py")
    stage.commits("git rm -q settings.py")
    review = stage.review()
    found = next(each for each in review.findings if "GitHub" in each.sentence)
    assert (found.kind, found.commit, found.path, found.line) == (FindingKind.SECRET, middle, "settings.py", 2)
    assert SECRET not in told(review)
    assert SECRET[:8] not in repr(review.findings)
    # Its mark, and no other, lets it through.
    marks = frozenset(each.mark for each in review.findings if each.mark is not None)
    assert stage.review(scan=replace(SCAN, allowed_marks=marks)).findings == ()
    other = replace(SCAN, key=b"another-key-of-another-machine")
    assert stage.review(scan=replace(other, allowed_marks=marks)).findings != ()


#: How a secret is hidden, by the path in which it is; {0} and {1} are its halves.
HIDDEN = {
    "divided.py": 'printf \'k = ("%s"\\n     "%s")\\n\' {0} {1}',
    "added-up.js": 'printf \'k = "%s" + \\\\\\n  "%s"\\n\' {0} {1}',
    "allowed-by-itself.py": "echo 'k = \"{0}{1}\"  # pragma: allowlist secret'",
    "picture.svg": "echo '{0}{1}'",
    "poetry.lock": "echo 'token = \"{0}{1}\"'",
    "called.py": "echo 'k = get(\"{0}{1}\")'",
    "attributes.txt": "mkdir -p .git/info; echo '* -diff' > .git/info/attributes; echo '{0}{1}'",
    "after-a-zero.bin": "printf 'x\\0{0}{1}\\n'",
    "utf-16.txt": "printf '{0}{1}\\n' | iconv -t UTF-16",
    "after-a-return.txt": "printf 'x\\r{0}{1}\\ry'",
    "long-line": "head -c 100000 /dev/zero | tr '\\0' x; printf ' {0}{1} '; head -c 9000 /dev/zero | tr '\\0' x",
}


def test_a_secret_is_found_however_it_is_hidden(stage: Stage) -> None:
    scripts = [
        f"({script.replace('{0}', SECRET[:14]).replace('{1}', SECRET[14:])}) > {path}"
        for path, script in HIDDEN.items()
    ]
    stage.commits("\n".join([*scripts, f"ln -s {SECRET} link"]))
    found = {each.path for each in stage.review().findings if each.kind is FindingKind.SECRET}
    assert found == {*HIDDEN, "link"}


def test_the_baseline_of_the_base_counts_and_the_agents_own_does_not(stage: Stage) -> None:
    stage.commits(f"echo 'key = \"{SECRET}\"' > settings.py")
    entry = {"hashed_secret": hashlib.sha1(SECRET.encode()).hexdigest(), "type": "GitHub Token"}
    baseline = json.dumps({"results": {"settings.py": [entry]}})
    stage.commits(f"cat > .secrets.baseline <<'END'\n{baseline}\nEND")
    assert stage.kinds() >= {FindingKind.SECRET, FindingKind.PROTECTED}

    stage.agent("git reset -q --hard HEAD~2")
    stage.ground.commit(".secrets.baseline", baseline)
    stage.publish_base()
    stage.mirror.update(stage.remote(), "main")
    stage.base = stage.forge_commit("main")
    stage.agent("git fetch -q origin; git reset -q --hard origin/main")
    stage.commits(f"echo 'key = \"{SECRET}\"' > settings.py")
    assert stage.review().findings == ()
    stage.commits(f"echo 'key = \"{SECRET}\"' > other.py")
    assert {each.path for each in stage.review().findings} == {"other.py"}


def test_a_mark_allows_one_secret_and_not_others_of_its_form(stage: Stage) -> None:
    def key(content: str) -> str:
        return f"printf %b '-----BEGIN RSA PRIVATE KEY-----\\n{content * 8}\\n'"

    stage.commits(f"{key('MIIabc')} > a; echo {SECRET} > b")
    marks = frozenset(each.mark for each in stage.review().findings if each.mark is not None)
    assert len(marks) == 2
    assert stage.review(scan=replace(SCAN, allowed_marks=marks)).findings == ()
    stage.commits(f"{key('MIIxyz')} > c; echo ghp_{SECRET[:3:-1]} > d")
    assert {each.path for each in stage.review(scan=replace(SCAN, allowed_marks=marks)).findings} == {"c", "d"}


def test_what_the_base_has_already_is_no_finding(stage: Stage) -> None:
    stage.ground.commit("settings.py", f'key = "{SECRET}"\n')
    stage.publish_base()
    stage.mirror.update(stage.remote(), "main")
    stage.base = stage.forge_commit("main")
    stage.agent("git fetch -q origin; git reset -q --hard origin/main")
    stage.commits("printf '\\n\\n' > new; cat settings.py >> new; mv new settings.py; echo more >> settings.py")
    assert stage.review().findings == ()


def test_a_secret_of_musters_own_is_found_however_it_is_escaped(stage: Stage) -> None:
    stage.commits("printf 'a\\n\\\\u0074elephone-exchange\\n' > notes.txt")
    known = SecretValues(["telephone-exchange"])
    found = stage.review(scan=replace(SCAN, known=known)).findings
    assert [(each.kind, each.line) for each in found] == [(FindingKind.SECRET, 2)]
    assert "exchange" not in repr(found)


def test_protected_paths_are_found_as_any_file_system_reads_them(stage: Stage) -> None:
    paths = {
        ".GitHub/Workflows/ci.yml",
        ".gitea/workflows/x/y",
        ".forgejo/workflows/ci.yml",
        "src/.gitattributes",
        "docs/CODEOWNERS",
        ".muster/merge.yaml",
        ".github./workflows /ci.yml",
        ".circleci/config.yml",
        ".drone.yml",
        ".woodpecker.yaml",
        "Jenkinsfile",
        # A file instead of a folder.
        ".github",
    }
    stage.commits("\n".join(f"mkdir -p \"$(dirname '{path}')\"; echo x > '{path}'" for path in sorted(paths)))
    stage.commits("git rm -qrf .; echo y > other")
    found = [each for each in stage.review().findings if each.kind is FindingKind.PROTECTED]
    assert {each.path for each in found} == paths
    # Adding them is found, and removing them again, too.
    assert len(found) == 2 * len(paths)


def test_a_workflow_by_rename_and_a_link_to_it_are_found(stage: Stage) -> None:
    stage.commits("mkdir -p .github/workflows; echo a > innocent.yml")
    renamed = stage.commits("mkdir -p .github/workflows; git mv innocent.yml .github/workflows/ci.yml")
    stage.commits("ln -s .github/workflows/ci.yml run.yml; mkdir x; ln -s ../.github x/there; ln -s /etc/passwd out")
    stage.commits("ln -s ../../up up; ln -s read.me fine")
    found = stage.review().findings
    assert [(each.commit, each.path) for each in found if each.kind is FindingKind.PROTECTED] == [
        (renamed, ".github/workflows/ci.yml")
    ]
    assert {each.path for each in found if each.kind is FindingKind.LINK} == {"run.yml", "x/there", "out", "up"}


def test_the_paths_that_the_base_protects_and_those_that_an_operator_names(stage: Stage) -> None:
    stage.ground.git("rm", "-q", "--cached", "--ignore-unmatch", "x")
    (stage.ground.project / ".muster").mkdir()
    stage.ground.commit(".muster/merge.yaml", "protected: [ci]\n")
    stage.publish_base()
    stage.mirror.update(stage.remote(), "main")
    stage.base = stage.forge_commit("main")
    stage.agent("git fetch -q origin; git reset -q --hard origin/main")
    stage.commits("mkdir ci; echo x > ci/run; echo y > Makefile")
    rules = replace(RULES, protected=(*RULES.protected, "**/Makefile"))
    assert {each.path for each in stage.review(rules).findings} == {"ci/run", "Makefile"}


def test_a_submodule_is_found(stage: Stage) -> None:
    stage.agent("git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),lib; git commit -qm lib")
    assert FindingKind.LINK in stage.kinds()
    # Taking it out again is read, too.
    stage.agent("git rm -q --cached lib; git commit -qm out")
    assert FindingKind.LINK in stage.kinds()


def test_author_committer_and_headers_are_the_agents(stage: Stage) -> None:
    stage.agent("echo a > a; git add a; git commit -qm a --author 'Ana <ana@example.org>'")
    stage.agent("echo b > b; git add b; GIT_COMMITTER_EMAIL=ana@example.org git commit -qm b")
    stage.agent("echo c > c; git add c; git -c i18n.commitEncoding=latin1 commit -qm c")
    found = [each.sentence for each in stage.review().findings if each.kind is FindingKind.IDENTITY]
    assert len(found) == 3
    assert found[0].startswith("The author is Ana <ana@example.org>")
    assert found[1].startswith("The committer is coder0 <ana@example.org>")
    assert found[2].startswith("The commit has the header encoding")
    other = replace(RULES, identity=CommitIdentity(name="x", email="y"))
    assert FindingKind.IDENTITY in stage.kinds(other)


def test_merges_and_other_histories_are_found(stage: Stage) -> None:
    stage.agent("git checkout -qb side; echo a > a; git add a; git commit -qm a; git checkout -q muster/coder0")
    stage.commits("echo b > b")
    stage.agent("git merge -q --no-edit side")
    assert FindingKind.MERGE in stage.kinds()
    stage.agent("git checkout -q --orphan new; git commit -qm new; git branch -qf muster/coder0; ")
    assert FindingKind.UNRELATED in stage.kinds()


def test_nothing_is_found_to_be_nothing(stage: Stage) -> None:
    assert stage.kinds() == {FindingKind.EMPTY}
    stage.agent("git commit -qm empty --allow-empty")
    assert stage.kinds() == {FindingKind.EMPTY}


def test_too_many_commits_files_and_bytes_are_found(stage: Stage) -> None:
    stage.commits("for n in 1 2 3 4 5; do head -c 1000 /dev/urandom > f$n; done")
    stage.commits("echo x > f6")
    assert stage.kinds(RULES) == set()
    with stage.incoming() as branch:
        for rules in (
            replace(RULES, commits=1),
            replace(RULES, files=5),
            replace(RULES, total_bytes=5001),
            replace(RULES, file_bytes=999),
        ):
            found = checks.check(listing_reader.read(branch, rules), rules)
            assert [each.kind for each in found if each.path is None] or rules.file_bytes == 999
            assert {each.kind for each in found} == {FindingKind.SIZE}, rules


def test_a_message_that_is_endless_is_not_read(stage: Stage) -> None:
    stage.agent("head -c 300000 /dev/zero | tr '\\0' m > /tmp/m; echo x > x; git add x; git commit -qF /tmp/m")
    assert FindingKind.SIZE in stage.kinds()


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@pytest.mark.slow
def test_a_large_file_that_compresses_well_is_a_finding_and_never_in_memory(stage: Stage) -> None:
    stage.commits("truncate -s 200M zeros")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    bounds = IncomingBounds(memory_bytes=180 * 1000**2)
    with stage.incoming(bounds) as branch:
        assert size_of(branch.git_dir) < 2_000_000
    found = [each for each in stage.review().findings if each.path == "zeros"]
    assert [each.kind for each in found] == [FindingKind.SIZE]
    assert "200.0 MB" in found[0].sentence or "209.7 MB" in found[0].sentence
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after <= max(before, 400_000)


@pytest.mark.parametrize(("megabytes", "most"), [(12, 4), pytest.param(200, 64, marks=pytest.mark.slow)])
def test_a_large_file_that_does_not_compress_is_stopped_while_it_is_fetched(
    stage: Stage, megabytes: int, most: int
) -> None:
    stage.commits(f"head -c {megabytes}000000 /dev/urandom > noise")
    bounds = IncomingBounds(pack_bytes=most * 1000**2)
    with pytest.raises(BranchTooLarge, match=f"{most} MB") as refused, stage.incoming(bounds):
        raise AssertionError("it was fetched")
    assert refused.value.code == "publishing.too_large"
    assert size_of(stage.folder / "state") < 2_000_000
    # The mirror and the agent's next attempt work.
    stage.agent("git reset -q --hard HEAD~1")
    stage.commits("echo small > small")
    assert stage.review().findings == ()


def test_nothing_that_the_clone_names_runs(stage: Stage) -> None:
    mark = stage.folder / "mark"
    stage.commits("echo x > x")
    traps(mark, stage.ground.clone.place)
    assert stage.review().findings == ()
    assert not mark.exists()


def test_a_clone_that_borrows_from_elsewhere_gives_nothing_of_it(stage: Stage) -> None:
    secret = stage.folder / "machine" / "code" / "secret"
    secret.mkdir()
    stage.ground.git("init", "--quiet", "-b", "main", cwd=secret)
    hidden = stage.ground.commit("plan", "secret", cwd=secret)
    own = stage.ground.clone.place / ".git"
    with (own / "objects" / "info" / "alternates").open("a") as alternates:
        alternates.write(f"{secret}/.git/objects\n")
    (own / "refs" / "heads" / "muster" / "coder0").write_text(f"{hidden}\n")
    with pytest.raises(sandboxed_git.GitFailed), stage.incoming():
        raise AssertionError("it was fetched")


def test_a_killed_look_leaves_a_place_for_the_next(stage: Stage) -> None:
    stage.commits("echo x > x")
    left = stage.folder / "state" / "incoming" / "coder0"
    (left / "objects" / "pack").mkdir(parents=True)
    (left / "objects" / "pack" / "tmp_pack_x").write_bytes(b"x" * 1000)
    (left / "HEAD.lock").touch()
    # A process that holds the lock dies with it.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), stage.incoming():
            os.write(writing, b"x")
            signal.pause()
        os._exit(1)
    assert os.read(reading, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert left.exists()
    assert stage.review().findings == ()
    assert not left.exists()


def test_a_few_objects_that_stand_for_any_number_of_files_are_not_listed(stage: Stage) -> None:
    stage.agent(
        """
        tree=$(printf '100644 blob %s\\tx\\n' $(echo x | git hash-object -w --stdin) | git mktree)
        for level in 1 2 3 4 5 6 7 8 9; do
            tree=$(for name in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\t%s\\n' $tree $name; done | git mktree)
        done
        git update-ref refs/heads/muster/coder0 $(git commit-tree -p HEAD -m bomb $tree)
        """
    )
    assert FindingKind.SIZE in stage.kinds()
