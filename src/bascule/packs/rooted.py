"""Files below one folder, for every path that a model names: the only way that packs reach files.

    root = Root("~/documents")
    root.read("reports/2026.md", max_bytes=1_000_000)      # -> bytes
    with root.open("reports/2026.pdf") as file: …          # a regular file, to read; .fileno() for apart.run
    root.write("reports/2027.md", b"…", make_folders=True)  # refuses to overwrite unless overwrite=True
    root.list("reports"), root.walk(), root.stat("a.txt"), root.make_folder("b"), root.move("a.txt", "b/a.txt")
    kept = root.delete("b/a.txt"); root.restore(kept)      # a deleted file is kept in the folder .trash

A path is relative, in plain names (paths.py), `.` the folder itself. No symbolic link is followed, no `..`, and
only regular files are opened or written; anything else is a ToolFailed, with one sentence for all that leads outside.
Hidden files (`.env`, `.git/…`) are not served unless `hidden=True`. One file has one spelling, also where the file
system folds case or Unicode forms; a new name that looks like one that is there is refused.
Blocking: call it in a thread (`asyncio.to_thread`); one Root may be used by many at once.
"""

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

import msgspec

from bascule.errors import ConfigInvalid
from bascule.packs import beneath, paths
from bascule.packs.pack import ToolFailed
from bascule.packs.paths import FOLDER, RECORDS, TRASH, outside, shown

Kind: TypeAlias = Literal["file", "folder", "other"]

MAX_ENTRIES: Final = 100_000  # of one folder that are looked at
MAX_WALK_DEPTH: Final = 32
_NO_FILES: Final = ("/proc/", "/sys/", "/dev/")  # though they look like files
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class Entry(msgspec.Struct, frozen=True):
    """Something below the root; `other` is a link, a device, a FIFO or a socket, which is shown and never opened."""

    path: str
    kind: Kind
    size_bytes: int
    modified: str  # UTC, ISO 8601


class Listing(msgspec.Struct, frozen=True):
    entries: tuple[Entry, ...]  # by name
    complete: bool  # whether that is all that can be named in the folder


class Root:
    """The folder *folder*, opened once: what happens to its path later is no matter."""

    def __init__(self, folder: str | Path, *, hidden: bool = False, trash: bool = True, openat2: bool = True) -> None:
        """*trash*: what is deleted is kept. *openat2*: false for the way that needs no such system call.

        Raises ConfigInvalid if it is no folder, or one that does not hold files.
        """
        if os.open not in os.supports_dir_fd:
            raise ConfigInvalid("this system cannot open files below a folder safely", field="settings.root")
        self.path = Path(folder).expanduser()
        try:
            self.fd = os.open(self.path, beneath.AS_FOLDER | os.O_CLOEXEC)
            real = os.path.realpath(self.path)
        except OSError as error:
            message = f"{folder}: the folder cannot be opened: {error.strerror}"
            raise ConfigInvalid(message, field="settings.root") from error
        if real == "/" or f"{real}/".startswith(_NO_FILES):
            os.close(self.fd)
            raise ConfigInvalid(f"{folder}: name a folder of files, not the system's", field="settings.root")
        self._hidden = hidden
        self._trash = trash
        self._resolve = beneath.best(self.fd) if openat2 else beneath.step_by_step

    def close(self) -> None:
        os.close(self.fd)

    # ---- to look

    def open(self, path: str) -> BinaryIO:
        """The regular file *path*, to read; whoever asked closes it. Raises ToolFailed."""
        names = self._names(path, a_file=True)
        with _told(path), self._above(names) as folder:
            self._check_spelling(path, names)
            _check_regular(path, _entry(folder, names[-1]))
            file = os.fdopen(self._resolve(folder, names[-1:], beneath.AS_FILE), "rb")
            try:
                _check_regular(path, os.fstat(file.fileno()))  # it may be another by now
            except ToolFailed:
                file.close()
                raise
            return file

    def read(self, path: str, max_bytes: int) -> bytes:
        """All of the regular file *path*. Raises ToolFailed, also if it is larger than *max_bytes*."""
        with self.open(path) as file, _told(path):
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ToolFailed(f"{shown(path)} is larger than {max_bytes} bytes.", "Ask for a part, or a smaller file.")
        return content

    def stat(self, path: str) -> Entry:
        """What *path* is. Raises ToolFailed; a symbolic link is outside."""
        names = self._names(path)
        with _told(path):
            if not names:
                return _as_entry(FOLDER, os.fstat(self.fd))
            with self._above(names) as folder:
                self._check_spelling(path, names)
                found = _entry(folder, names[-1])
                if found is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                if _is_link(found):
                    raise outside(path)
                return _as_entry(path, found)

    def identity(self, path: str) -> tuple[int, int]:
        """What stays the same when *path* is moved. Raises ToolFailed if it is not there."""
        self.stat(path)
        names = self._names(path, a_file=True)
        with _told(path), self._above(names) as folder:
            found = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
        return found.st_dev, found.st_ino

    def list(self, path: str = FOLDER, max_entries: int = MAX_ENTRIES) -> Listing:
        """What is in the folder *path*, by name, as far as it can be named. Raises ToolFailed."""
        names = self._names(path)
        with _told(path), self._folder(names) as folder:
            self._check_spelling(path, names)
            found = list(islice(self._entries(folder, names), max_entries + 1))
        found.sort(key=lambda entry: entry.path)
        return Listing(tuple(found[:max_entries]), complete=len(found) <= max_entries)

    def walk(
        self,
        path: str = FOLDER,
        max_depth: int = MAX_WALK_DEPTH,
        missed: Callable[[str], object] = lambda path: None,
    ) -> Iterator[Entry]:
        """Everything below the folder *path*, each folder before what is in it, by name; take as much as is wanted.

        *missed* is told each folder of which not all was seen: one that cannot be opened, is exchanged meanwhile, is
        too deep, or has more than MAX_ENTRIES. Raises ToolFailed for *path* itself.
        """
        listing = self.list(path)
        if not listing.complete:
            missed(path)
        for entry in listing.entries:
            yield entry
            if entry.kind != "folder":
                continue
            if max_depth <= 1:
                missed(entry.path)
                continue
            try:
                yield from self.walk(entry.path, max_depth - 1, missed)
            except ToolFailed:
                missed(entry.path)

    # ---- to change

    def write(self, path: str, content: bytes, *, overwrite: bool = False, make_folders: bool = False) -> Entry:
        """Write the whole file *path* at once: whoever reads it meanwhile sees the old one or the new one.

        A new file has the mode 0600, another keeps its own. Raises ToolFailed: if it is there and *overwrite* is
        false, if it is read-only, has other names (hard links) or is no regular file.
        """
        names = self._names(path, a_file=True)
        with _told(path), self._above(names, make=make_folders) as folder:
            self._check_spelling(path, names)
            before = _entry(folder, names[-1])
            if before is None:
                _check_composed(path)
                self._check_new(folder, path)
            else:
                _check_writable(path, before, overwrite)
            mode = _FILE_MODE if before is None else stat.S_IMODE(before.st_mode) & 0o777
            temporary = self._temporary(folder, content, mode)
            try:
                if before is None:
                    beneath.rename_new(folder, temporary, folder, names[-1])
                else:
                    os.replace(temporary, names[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)
        return self.stat(path)

    def make_folder(self, path: str) -> bool:
        """Make the folder *path*, and those above it; false if it is there. Raises ToolFailed."""
        names = self._names(path)
        with _told(path):
            return self._make_folders(names)

    def move(self, path: str, to: str, *, make_folders: bool = False) -> None:
        """Give the file or folder *path* the path *to*, at which nothing may be. Raises ToolFailed."""
        source, target = self._names(path, a_file=True), self._names(to, a_file=True)
        self.stat(path)  # so that a name of what is not there does not make folders
        with _told(path), self._above(source) as folder:
            found = _entry(folder, source[-1])
            if found is None or not stat.S_ISDIR(found.st_mode):
                _check_regular(path, found)
            with _told(to), self._above(target, make=make_folders) as above:
                own = source[-1] if source[:-1] == target[:-1] else None
                self._check_spelling(to, target[:-1])
                _check_composed(to)
                self._check_new(above, to, own)
                beneath.rename_new(folder, source[-1], above, target[-1])
                os.fsync(above)
            os.fsync(folder)

    def delete(self, path: str, kept: str | None = None) -> str | None:
        """Delete a regular file, or a folder that is empty; the path that the file is kept at. Raises ToolFailed.

        *kept*: where to keep it, if that had to be known before (`kept_as`).
        """
        names = self._names(path, a_file=True)
        kept = kept or self.kept_as(path)
        with _told(path), self._above(names) as folder:
            self._check_spelling(path, names)
            found = _entry(folder, names[-1])
            if found is not None and stat.S_ISDIR(found.st_mode):
                os.rmdir(names[-1], dir_fd=folder)
                kept = None
            else:
                _check_regular(path, found)
                if kept is None:
                    os.unlink(names[-1], dir_fd=folder)
                else:
                    self._keep(folder, names[-1], kept)
            os.fsync(folder)
        return kept

    def kept_as(self, path: str) -> str | None:
        """A new path in the trash for *path*; None without a trash."""
        if not self._trash:
            return None
        return f"{TRASH}/{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}/{path}"

    def kept_path(self, kept: str) -> str:
        """The path that the file was deleted from that is kept at *kept*. Raises ToolFailed."""
        return "/".join(self._kept_names(kept)[1])

    def is_kept(self, kept: str) -> bool:
        """Whether the trash has this. Raises ToolFailed for what is no path in it."""
        stamp, names = self._kept_names(kept)
        with _told(kept), suppress(ToolFailed), self._above((TRASH, stamp, *names)) as folder:
            return _entry(folder, names[-1]) is not None
        return False

    def restore(self, kept: str) -> str:
        """Bring back a file that was deleted, from the path that it is kept at; its own path. Raises ToolFailed."""
        stamp, names = self._kept_names(kept)
        path = "/".join(names)
        with _told(kept), self._above((TRASH, stamp, *names)) as folder:
            _check_regular(kept, _entry(folder, names[-1]))
            with _told(path), self._above(names, make=True) as above:
                self._check_new(above, path)
                beneath.rename_new(folder, names[-1], above, names[-1])
                os.fsync(above)
        self._sweep((TRASH, stamp, *names[:-1]))
        return path

    # ---- what a pack remembers beside its files

    def remember(self, name: str, content: bytes) -> None:
        """Keep *content* as *name*, which is the pack's own and no path of a model's; what it was before is gone."""
        with _told(name):
            self._make_own((RECORDS,))
            with self._folder((RECORDS,)) as folder:
                temporary = self._temporary(folder, content, _FILE_MODE)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)

    def recall(self, name: str) -> bytes | None:
        """What is kept as *name*."""
        with _told(name):
            try:
                with self._folder((RECORDS,)) as folder:
                    fd = self._resolve(folder, (name,), beneath.AS_FILE)
            except FileNotFoundError:
                return None
            with os.fdopen(fd, "rb") as file:
                _check_regular(name, os.fstat(fd))
                return file.read()

    def forget(self, older_than_s: float) -> None:
        """Forget what was remembered so long ago, as far as that can be done."""
        with suppress(OSError), self._folder((RECORDS,)) as folder:
            for name in os.listdir(folder):
                if time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime > older_than_s:
                    os.unlink(name, dir_fd=folder)

    # ---- how

    def _names(self, path: str, *, a_file: bool = False) -> tuple[str, ...]:
        names = paths.names_of(path)
        if (a_file and not names) or any(map(paths.is_ours, names)):
            raise outside(path)
        if not self._hidden and any(map(paths.is_hidden, names)):
            raise ToolFailed(f"{shown(path)} is hidden, and hidden files are not served here.", "Name another file.")
        return names

    def _kept_names(self, kept: str) -> tuple[str, tuple[str, ...]]:
        """(folder in the trash, names of the path that it was deleted from) of a path in the trash."""
        trash, _, rest = kept.partition("/")
        stamp, _, path = rest.partition("/")
        if trash != TRASH or not paths.is_name(stamp):
            raise outside(kept)
        return stamp, self._names(path, a_file=True)

    @contextmanager
    def _folder(self, names: tuple[str, ...]) -> Iterator[int]:
        fd = self._resolve(self.fd, names, beneath.AS_FOLDER)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _above(self, names: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """The folder that *names* is in; one that is missing is made, if *make*. Raises OSError, ToolFailed."""
        if make:
            self._make_folders(names[:-1])
        try:
            fd = self._resolve(self.fd, names[:-1], beneath.AS_FOLDER)
        except (FileNotFoundError, NotADirectoryError) as error:
            what = f"There is no folder {shown('/'.join(names[:-1]))}."
            raise ToolFailed(what, "See what there is with a list of the folder.") from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _make_folders(self, names: tuple[str, ...]) -> bool:
        made = False
        for depth in range(1, len(names) + 1):
            with self._folder(names[: depth - 1]) as above:
                if _entry(above, names[depth - 1]) is None:
                    _check_composed(names[depth - 1])
                    self._check_new(above, "/".join(names[:depth]))
                    with suppress(FileExistsError):  # another call has made it meanwhile
                        os.mkdir(names[depth - 1], _FOLDER_MODE, dir_fd=above)
                        made = True
        with self._folder(names):  # it is one, then
            self._check_spelling("/".join(names), names)
        return made

    def _entries(self, folder: int, names: tuple[str, ...]) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            for each in found:
                if not paths.is_name(each.name) or paths.is_ours(each.name):
                    continue  # nobody could ask for it
                if paths.is_hidden(each.name) and not self._hidden:
                    continue
                with suppress(FileNotFoundError):
                    yield _as_entry("/".join((*names, each.name)), each.stat(follow_symlinks=False))

    def _check_new(self, folder: int, path: str, own: str | None = None) -> None:
        """Raises ToolFailed if the new *path* would look like an entry of *folder*, except *own*."""
        name = path.rpartition("/")[2]
        twins = [each for each in os.listdir(folder) if each != own and paths.twin(each) == paths.twin(name)]
        if name in twins:
            raise outside(path) if _is_link(_entry(folder, name)) else _there(path)
        if twins:
            what = f"There is {shown(twins[0])}, which looks like {shown(name)} but for case or the form of letters."
            raise ToolFailed(what, "Choose another name, or that one.")

    def _check_spelling(self, path: str, names: tuple[str, ...]) -> None:
        """Raises ToolFailed where a folding file system has found something that is spelled otherwise."""
        for depth, name in enumerate(names):
            above = "/".join(names[:depth]) or "."
            with suppress(FileNotFoundError):
                own = os.stat(f"{above}/{name}", dir_fd=self.fd, follow_symlinks=False)
                for other in paths.respelled(name):
                    with suppress(FileNotFoundError):
                        found = os.stat(f"{above}/{other}", dir_fd=self.fd, follow_symlinks=False)
                        if os.path.samestat(own, found) and not self._is_listed(names[:depth], name):
                            raise _missing(path)

    def _is_listed(self, above: tuple[str, ...], name: str) -> bool:
        with self._folder(above) as folder:
            return name in os.listdir(folder)

    def _temporary(self, folder: int, content: bytes, mode: int) -> str:
        """The name of a new file in *folder* with *content*, which is on the disk. Raises OSError, and leaves none."""
        name = f"{paths.TEMPORARY}{secrets.token_hex(8)}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | beneath.ALWAYS, _FILE_MODE, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(fd, mode)
                os.fsync(fd)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise
        return name

    def _keep(self, folder: int, name: str, kept: str) -> None:
        names = tuple(kept.split("/"))
        self._make_own(names[:-1])
        with self._folder(names[:-1]) as trash:
            beneath.rename_new(folder, name, trash, names[-1])
            os.fsync(trash)

    def _make_own(self, names: tuple[str, ...]) -> None:
        for depth in range(1, len(names) + 1):
            with self._folder(names[: depth - 1]) as above, suppress(FileExistsError):
                os.mkdir(names[depth - 1], _FOLDER_MODE, dir_fd=above)

    def _sweep(self, names: tuple[str, ...]) -> None:
        """Remove these folders of the trash as far as they are empty, from the inside."""
        with suppress(OSError):
            for depth in range(len(names), 1, -1):
                with self._above(names[:depth]) as above:
                    os.rmdir(names[depth - 1], dir_fd=above)


# ---- what is there, and what is wrong --------------------------------------------------------------


def _entry(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _check_composed(path: str) -> None:
    """Raises ToolFailed if the last name of *path* is not one that could be typed."""
    name = path.rpartition("/")[2]
    if not paths.is_composed(name):
        raise ToolFailed(f"The name {shown(name)} is not in Unicode form NFC.", "Write it with composed letters.")


def _is_link(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISLNK(found.st_mode)


def _as_entry(path: str, found: os.stat_result) -> Entry:
    kind: Kind = "file" if stat.S_ISREG(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else "other"
    modified = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds")
    return Entry(path, kind, found.st_size if kind == "file" else 0, modified)


def _check_regular(path: str, found: os.stat_result | None) -> None:
    """Raises ToolFailed unless it is a regular file."""
    if found is None:
        raise _missing(path)
    if _is_link(found):
        raise outside(path)
    if stat.S_ISDIR(found.st_mode):
        raise ToolFailed(f"{shown(path)} is a folder.", "Name a file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise ToolFailed(f"{shown(path)} is no regular file, but a device, a FIFO or a socket.", "Name another file.")


def _check_writable(path: str, before: os.stat_result, overwrite: bool) -> None:
    _check_regular(path, before)
    if not overwrite:
        raise _there(path)
    if before.st_nlink > 1:
        what = f"{shown(path)} has other names (hard links), perhaps outside of the folder of this pack."
        raise ToolFailed(what, "Write a new file under another name.")
    if not before.st_mode & 0o222:
        raise ToolFailed(f"{shown(path)} is read-only.", "Write a new file under another name.")


def _missing(path: str) -> ToolFailed:
    return ToolFailed(f"There is no {shown(path)}.", "See what there is with a list of the folder.")


def _there(path: str) -> ToolFailed:
    return ToolFailed(f"There is something at {shown(path)} already.", "Choose another name.")


_SAID: Final = {
    errno.EACCES: "This process may not do that to {}.",
    errno.EPERM: "This process may not do that to {}.",
    errno.EROFS: "{} is on a file system that is read-only.",
    errno.ENOSPC: "There is no room for {} on the disk.",
    errno.EDQUOT: "There is no room for {}: the quota is used up.",
    errno.EFBIG: "{} would be larger than a file may be.",
    errno.ENOTEMPTY: "The folder {} is not empty.",
    errno.EXDEV: "{} cannot be moved to another file system.",
    errno.EINVAL: "{} cannot be moved there: a folder does not go into itself.",
}
_DO: Final = {
    errno.ENOTEMPTY: "Delete or move what is in it first.",
    errno.EXDEV: "Read it, and write it anew.",
    errno.EINVAL: "Choose another folder.",
}


@contextmanager
def _told(path: str) -> Iterator[None]:
    """What the system says of *path*, as a ToolFailed."""
    try:
        yield
    except FileNotFoundError as error:
        raise _missing(path) from error
    except NotADirectoryError as error:
        raise ToolFailed(f"{shown(path)} is no folder.", "See what there is with a list of the folder.") from error
    except FileExistsError as error:
        raise _there(path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO):  # ENXIO: a socket
            raise outside(path) from error
        said = _SAID.get(error.errno or 0, "{} cannot be used: " + f"{error.strerror}.")
        do = _DO.get(error.errno or 0, "Tell the person who runs this server.")
        raise ToolFailed(said.format(shown(path)), do) from error
