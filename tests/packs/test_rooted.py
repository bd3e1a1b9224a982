"""Nothing that a path says leads out of a Root, by either way of opening; and what is written is whole."""

import os
import resource
import socket
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bascule.errors import ConfigInvalid
from bascule.packs import beneath, paths
from bascule.packs.pack import ToolFailed
from bascule.packs.rooted import Root

CANARY = b"canary-outside-51d7e0b2"
OUTSIDE = "is not a path below the folder of this pack"


@pytest.fixture(params=[True, False], ids=["openat2", "step by step"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Root]:
    """A root among things that it must never show."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_bytes(CANARY)
    (tmp_path / "root-twin").mkdir()  # its path begins with the root's
    (tmp_path / "root-twin" / "key.txt").write_bytes(CANARY)
    folder = tmp_path / "root"
    (folder / "reports").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"first")
    (folder / "reports" / "b.md").write_bytes(b"second")
    found = Root(folder, openat2=request.param)
    yield found
    found.close()


def refusal(run: Callable[..., object], *arguments: object, **options: object) -> str:
    """What *run* says that cannot do it. Fails if it could."""
    try:
        found = run(*arguments, **options)
        if isinstance(found, Iterator):
            next(found)
    except ToolFailed as error:
        return str(error)
    raise AssertionError(f"{arguments} gave {found!r}")


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is below *folder*, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


def test_the_kernel_of_this_machine_has_openat2(root: Root) -> None:
    if sys.platform != "linux":
        pytest.skip("openat2 is a system call of Linux")
    assert beneath.best(root.fd) is beneath.at_once


# ---- what a path may say


ALIEN = [
    *("../secret/key.txt", "reports/../../secret/key.txt", "reports/..", "..", "../root-twin/key.txt"),
    *("/etc/passwd", "//etc/passwd", "/proc/self/environ", "/dev/zero", "~/x/../../.."),
    *(
        "..\\secret\\key.txt",
        "C:\\key.txt",
        "C:key.txt",
        "c:/key.txt",
        "\\\\?\\C:\\x",
        "\\\\host\\share\\x",
        "//host/x",
    ),
    *(
        "CON",
        "con.txt",
        "reports/NUL",
        "aux.tar.gz",
        "COM1",
        "lpt9.txt",
        "COM¹",
        "PRN .txt",
        "a:stream",
        "a.txt::$DATA",
    ),
    *("a\0.txt", "a.txt\0", "\0", "a\n.txt", "a\x7f", "a\x1b[2J", "a\u202etxt.exe", "\u2066a", "a\u2028b", "\ud800"),
    *("", "./a.txt", "a.txt/", "reports//b.md", "reports/./b.md", "a.txt.", "a.txt ", "...", ". ", "reports /b.md"),
    *("a" * 256, "/".join(["a"] * 65), "/".join(["a" * 200] * 30), ".trash/x", ".bascule/x", ".TRASH/x"),
]


@pytest.mark.parametrize("path", ALIEN, ids=[ascii(path)[:40] for path in ALIEN])
def test_a_path_that_is_none_has_one_answer_from_everything(root: Root, path: str) -> None:
    before = tree(root.path.parent)
    tried = [
        *(refusal(run, path) for run in (root.open, root.stat, root.list, root.walk, root.make_folder, root.delete)),
        *(
            refusal(root.read, path, 10),
            refusal(root.write, path, b"x"),
            refusal(root.write, path, b"", overwrite=True),
        ),
        *(
            refusal(root.move, path, "c.txt"),
            refusal(root.move, "a.txt", path),
            refusal(root.restore, f".trash/1/{path}"),
        ),
        refusal(root.write, path, b"x", make_folders=True),
    ]
    assert all(OUTSIDE in said for said in tried), tried
    assert tree(root.path.parent) == before


def test_the_folder_itself_is_no_file(root: Root) -> None:
    assert OUTSIDE in refusal(root.read, ".", 10)
    assert OUTSIDE in refusal(root.delete, ".")
    assert OUTSIDE in refusal(root.move, ".", "b")
    assert root.stat(".").kind == "folder"


@pytest.mark.parametrize("path", [".env", ".git/config", "reports/.hidden"])
def test_hidden_files_are_not_served_unless_they_are(root: Root, path: str) -> None:
    (root.path / path).parent.mkdir(exist_ok=True)
    (root.path / path).write_bytes(b"x")
    for run in (root.open, root.stat, root.delete):
        assert "hidden" in refusal(run, path)
    assert "hidden" in refusal(root.write, f"{path}2", b"")
    assert not [entry for entry in root.walk() if "/." in f"/{entry.path}"]
    assert Root(root.path, hidden=True).read(path, 10) == b"x"
    assert path in [entry.path for entry in Root(root.path, hidden=True).walk()]


@pytest.mark.parametrize(
    "name", ["-rf", "--upload-pack=x", "$(id)", "`id`", "a b", "báo cáo.md", "*", "%2e%2e", "..a", "a..b"]
)
def test_other_names_are_names(root: Root, name: str) -> None:
    if name.startswith("."):
        root = Root(root.path, hidden=True)
    root.write(name, b"x")
    assert root.read(name, 10) == b"x"
    assert name in [entry.path for entry in root.list().entries]
    root.delete(name)


# ---- what stands in the folder


def test_a_link_is_outside_wherever_it_leads(root: Root) -> None:
    secret = root.path.parent / "secret"
    links: dict[str, Path | str] = {
        "file": secret / "key.txt",
        "folder": secret,
        "nothing": secret / "none",
        "inside": "a.txt",
        "itself": "itself",
        "up": "..",
        "environ": "/proc/self/environ",
        "fd": f"/proc/self/fd/{root.fd}",
    }
    for name, target in links.items():
        (root.path / name).symlink_to(target)
        before = tree(root.path.parent)
        for run in (root.open, root.stat, root.list, root.walk, root.delete, root.make_folder):
            assert outside(name) in refusal(run, name)
        for run in (root.open, root.stat, root.delete, root.make_folder):
            assert outside(f"{name}/key.txt") in refusal(run, f"{name}/key.txt")
        assert outside(name) in refusal(root.write, name, b"x", overwrite=True)
        assert outside(name) in refusal(root.write, name, b"x")
        assert outside(name) in refusal(root.move, name, "z")
        assert outside(f"{name}/new") in refusal(root.write, f"{name}/new", b"x")
        assert outside(f"{name}/z") in refusal(root.move, "a.txt", f"{name}/z")
        assert tree(root.path.parent) == before
    kinds = {entry.path: entry.kind for entry in root.walk()}
    files = {"a.txt": "file", "reports": "folder", "reports/b.md": "file"}
    assert kinds == {**files, **dict.fromkeys(links, "other")}


def outside(path: str) -> str:
    return f"{path!r} {OUTSIDE}"


def test_only_regular_files_are_opened(root: Root) -> None:
    os.mkfifo(root.path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root.path / "socket"))
        for name in ("fifo", "socket"):
            for said in (
                refusal(root.open, name),
                refusal(root.delete, name),
                refusal(root.move, name, "x"),
                refusal(root.write, name, b"", overwrite=True),
            ):
                assert "no regular file" in said
    assert "is a folder" in refusal(root.open, "reports")
    assert "is a folder" in refusal(root.write, "reports", b"", overwrite=True)


def test_a_file_with_other_names_is_not_overwritten(root: Root) -> None:
    os.link(root.path.parent / "secret" / "key.txt", root.path / "hard")
    assert "other names" in refusal(root.write, "hard", b"x", overwrite=True)
    assert (root.path.parent / "secret" / "key.txt").read_bytes() == CANARY


def test_a_twin_in_case_or_form_is_not_made(root: Root) -> None:
    composed, decomposed = (unicodedata.normalize(form, "bí mật.txt") for form in ("NFC", "NFD"))
    root.write(composed, b"x")
    for name in ("A.TXT", "Reports", "Bí Mật.txt"):
        assert "looks like" in refusal(root.write, name, b"y")
        assert "looks like" in refusal(root.move, "reports/b.md", name)
    assert "looks like" in refusal(root.make_folder, "REPORTS/new")
    assert "looks like" in refusal(root.write, "Reports/new.md", b"y", make_folders=True)
    assert "NFC" in refusal(root.write, decomposed, b"y")
    assert "There is no" in refusal(root.read, decomposed, 10)
    assert "There is no" in refusal(root.read, "A.txt", 10)


def test_a_file_may_be_renamed_in_its_case_only(root: Root) -> None:
    root.move("a.txt", "A.txt")
    assert root.read("A.txt", 10) == b"first"


def test_a_name_from_another_system_is_read_as_it_is_listed(root: Root) -> None:
    decomposed = unicodedata.normalize("NFD", "mục lục.txt")
    (root.path / decomposed).write_bytes(b"x")
    assert decomposed in [entry.path for entry in root.list().entries]
    assert root.read(decomposed, 10) == b"x"
    assert "looks like" in refusal(root.write, "mục lục.txt", b"y")
    assert root.restore(root.delete(decomposed) or "") == decomposed


class Folding(Root):
    """As on a file system that folds case: another spelling leads to the file, and is not in the list of the folder."""

    def _is_listed(self, above: tuple[str, ...], name: str) -> bool:
        return super()._is_listed(above, name) and name == name.lower()


def test_where_the_file_system_folds_names_one_spelling_is_served(root: Root) -> None:
    os.link(root.path / "a.txt", root.path / "A.TXT")  # two names of one file, which is how folding looks
    assert root.read("A.TXT", 10) == b"first"
    folding = Folding(root.path)
    assert folding.read("a.txt", 10) == b"first"
    for run in (folding.open, folding.stat, folding.delete):
        assert "There is no 'A.TXT'" in refusal(run, "A.TXT")
    assert "There is no 'A.TXT'" in refusal(folding.write, "A.TXT", b"x", overwrite=True)


@pytest.mark.parametrize("folder", ["/", "/proc/self", "/sys", "/dev"])
def test_a_folder_of_the_systems_own_is_no_root(folder: str) -> None:
    with pytest.raises(ConfigInvalid, match="name a folder of files"):
        Root(folder)


def test_what_is_no_folder_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "none"):
        with pytest.raises(ConfigInvalid, match="cannot be opened"):
            Root(tmp_path / name)


def test_the_root_stays_where_it_was_opened(root: Root) -> None:
    root.path.rename(root.path.parent / "moved")
    root.path.symlink_to(root.path.parent / "secret")
    assert root.read("a.txt", 10) == b"first"
    assert "There is no" in refusal(root.read, "key.txt", 100)


# ---- to write


def test_a_file_is_written_whole_and_for_its_owner(root: Root) -> None:
    entry = root.write("new.txt", b"hello")
    assert (entry.path, entry.kind, entry.size_bytes) == ("new.txt", "file", 5)
    assert stat.S_IMODE((root.path / "new.txt").stat().st_mode) == 0o600
    assert set(tree(root.path)) == {"a.txt", "reports", "reports/b.md", "new.txt"}


def test_overwriting_is_asked_for_and_keeps_the_mode(root: Root) -> None:
    assert "already" in refusal(root.write, "a.txt", b"x")
    (root.path / "a.txt").chmod(0o640)
    root.write("a.txt", b"x", overwrite=True)
    assert stat.S_IMODE((root.path / "a.txt").stat().st_mode) == 0o640
    assert root.read("a.txt", 10) == b"x"
    (root.path / "a.txt").chmod(0o440)
    assert "read-only" in refusal(root.write, "a.txt", b"y", overwrite=True)


def test_who_reads_while_it_is_overwritten_reads_the_old_one(root: Root) -> None:
    with root.open("a.txt") as file:
        root.write("a.txt", b"second", overwrite=True)
        assert file.read() == b"first"


def test_a_folder_that_is_missing_is_said_or_made(root: Root) -> None:
    assert refusal(root.write, "x/y/z.md", b"").startswith("There is no folder 'x/y'.")
    root.write("x/y/z.md", b"z", make_folders=True)
    assert root.read("x/y/z.md", 10) == b"z"
    assert "no folder 'a.txt'" in refusal(root.write, "a.txt/b", b"")
    assert root.make_folder("x/y/w") is True
    assert root.make_folder("x/y/w") is False


def test_a_write_that_fails_leaves_nothing(root: Root) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
    try:
        said = refusal(root.write, "a.txt", b"longer", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "larger than a file may be" in said
    assert tree(root.path) == {"a.txt": b"first", "reports": None, "reports/b.md": b"second"}


def test_moving_never_replaces(root: Root) -> None:
    assert "already" in refusal(root.move, "a.txt", "reports/b.md")
    assert "already" in refusal(root.move, "a.txt", "a.txt")
    assert "There is no" in refusal(root.move, "none", "c/d.txt", make_folders=True)
    assert not (root.path / "c").exists()
    assert "no folder 'c'" in refusal(root.move, "a.txt", "c/d.txt")
    root.move("a.txt", "c/d.txt", make_folders=True)
    root.move("c", "reports/c")
    assert root.read("reports/c/d.txt", 10) == b"first"
    assert "does not go into itself" in refusal(root.move, "reports", "reports/c/reports")
    assert root.read("reports/c/d.txt", 10) == b"first"


def test_renaming_without_the_system_call_does_not_replace_either(root: Root) -> None:
    (root.path / "full").mkdir()
    (root.path / "full" / "x").touch()
    for name, new in (("a.txt", "full"), ("full", "a.txt"), ("full", "reports")):
        with pytest.raises(FileExistsError):
            beneath.rename_by_link(root.fd, name, root.fd, new)
    beneath.rename_by_link(root.fd, "a.txt", root.fd, "b.txt")
    beneath.rename_by_link(root.fd, "full", root.fd, "fuller")
    with pytest.raises(OSError, match="Invalid argument"):
        beneath.rename_by_link(root.fd, "reports", os.open(root.path / "reports", os.O_RDONLY), "inner")
    assert set(tree(root.path)) == {"b.txt", "fuller", "fuller/x", "reports", "reports/b.md"}


def test_what_is_deleted_can_be_brought_back(root: Root) -> None:
    kept = root.delete("reports/b.md")
    assert kept is not None
    assert kept.startswith(".trash/")
    assert kept.endswith("/reports/b.md")
    assert root.delete("reports") is None
    assert [entry.path for entry in root.walk()] == ["a.txt"]
    assert OUTSIDE in refusal(root.read, kept, 10)
    assert root.restore(kept) == "reports/b.md"
    assert root.read("reports/b.md", 10) == b"second"
    assert list((root.path / ".trash").iterdir()) == []
    assert "There is no" in refusal(root.restore, kept)


def test_bringing_back_does_not_overwrite(root: Root) -> None:
    kept = root.delete("a.txt")
    assert kept
    root.write("a.txt", b"newer")
    assert "already" in refusal(root.restore, kept)
    assert root.read("a.txt", 10) == b"newer"


def test_without_a_trash_what_is_deleted_is_gone(root: Root) -> None:
    assert Root(root.path, trash=False).delete("a.txt") is None
    assert set(tree(root.path)) == {"reports", "reports/b.md"}


def test_a_folder_with_something_in_it_is_not_deleted(root: Root) -> None:
    assert "not empty" in refusal(root.delete, "reports")
    assert "There is no" in refusal(root.delete, "none")


def test_a_trash_that_leads_elsewhere_is_not_used(root: Root) -> None:
    (root.path / ".trash").symlink_to(root.path.parent / "secret")
    assert OUTSIDE in refusal(root.delete, "a.txt")
    assert root.read("a.txt", 10) == b"first"
    assert os.listdir(root.path.parent / "secret") == ["key.txt"]


def test_too_large_a_file_is_not_read(root: Root) -> None:
    assert root.read("a.txt", 5) == b"first"
    assert "larger than 4 bytes" in refusal(root.read, "a.txt", 4)


def test_lists_are_sorted_and_bounded(root: Root) -> None:
    for number in range(20):
        root.write(f"reports/{number:02}.md", b"")
    listing = root.list("reports", max_entries=21)
    assert listing.complete
    assert [entry.path for entry in listing.entries] == sorted(entry.path for entry in listing.entries)
    assert not root.list("reports", max_entries=20).complete
    assert len(root.list("reports", max_entries=20).entries) == 20
    assert [entry.path for entry in root.walk(max_depth=1)] == ["a.txt", "reports"]


# ---- properties


PIECES = st.sampled_from([
    "..", ".", "", "a.txt", "reports", "b.md", "link", "up", "secret", "key.txt", "root", "/", "\\", "\0", "C:", "~",
    "loop", "out", "hard", "-rf", ".trash", "\u202e", "root-twin", "proc", "self", "environ", "etc", "passwd",
])  # fmt: skip
PATHS = st.one_of(
    st.lists(PIECES, max_size=7).map("/".join), st.lists(PIECES, max_size=7).map("".join), st.text(max_size=40)
)
NAMES = st.sampled_from(["link", "up", "loop", "out", "reports/link", "reports/deep/up", "secret", "etc", "b.md"])
TARGETS = st.sampled_from([
    "../secret", "..", "loop", "../secret/key.txt", "/etc", "/proc/self/root", "/proc/self/cwd", "/dev/zero", ".",
    "../../..", "reports", "a.txt", "link", "/nowhere", "../root-twin", "up/../secret",
])  # fmt: skip


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "step by step"])
@settings(max_examples=120, deadline=None)
@given(links=st.dictionaries(NAMES, TARGETS, max_size=5), hard=st.booleans(), path=PATHS, to=PATHS)
@example(links={"up": "..", "link": "../secret"}, hard=True, path="up/root-twin/key.txt", to="link/x")
def test_no_path_reaches_what_is_outside(openat2: bool, links: dict[str, str], hard: bool, path: str, to: str) -> None:
    with TemporaryDirectory(prefix="bascule-") as folder:
        top = Path(folder)
        root = _hostile(top, links, hard, openat2)
        there = {name: content for name, content in tree(top).items() if not name.startswith("root/")}
        attempts: list[Callable[[], object]] = [
            lambda: root.read(path, 1000) if path != "hard" else b"",  # it is in the root, too, and may be read
            lambda: list(root.walk(path, 8)),
            lambda: root.write(path, b"mine", overwrite=True, make_folders=True),
            lambda: root.move(path, to, make_folders=True),
            lambda: root.restore(root.delete(to) or ""),
        ]
        assert CANARY.decode() not in "".join(map(tried, attempts))
        assert {name: content for name, content in tree(top).items() if not name.startswith("root/")} == there
        root.close()


def _hostile(top: Path, links: dict[str, str], hard: bool, openat2: bool) -> Root:
    """A root below *top* with these links in it, and what it must not show beside it."""
    for name in ("root/reports/deep", "root-twin", "secret"):
        (top / name).mkdir(parents=True)
    for name in ("root-twin/key.txt", "secret/key.txt"):
        (top / name).write_bytes(CANARY)
    (top / "root" / "a.txt").write_bytes(b"first")
    for name, target in links.items():
        (top / "root" / name).symlink_to(target)
    if hard:
        os.link(top / "secret" / "key.txt", top / "root" / "hard")
    return Root(top / "root", openat2=openat2)


def tried(attempt: Callable[[], object]) -> str:
    """What it gives or says."""
    try:
        return repr(attempt())
    except ToolFailed as error:
        return str(error)


@given(st.text(max_size=300))
def test_a_path_is_names_or_refused(path: str) -> None:
    try:
        names = paths.names_of(path)
    except ToolFailed as error:
        said = str(error)
        assert said.isprintable() and OUTSIDE in said  # noqa: PT018 - most of what is generated comes here
        return
    assert "/".join(names) == path or (path, names) == (".", ())
    assert not {"", ".", ".."} & set(names)
    assert os.path.normpath(path) == path
    assert not os.path.isabs(path)
