"""From entries of clients to servers of a configuration of Bascule's. PURE: nothing is started, read or written.

References are translated into ours. What may be a secret becomes a reference to a file of its own, below the state
folder; the files are only planned here, with what goes into them.
"""

import ntpath
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec

from bascule.clients import plainness
from bascule.clients.entries import Entry
from bascule.clients.plainness import Piece
from bascule.wire.names import slug

Split: TypeAlias = Callable[[str], Iterable[Piece]]  # tells the secret parts of a text

MAX_NAME: Final = 32  # characters of a server's name here
HIDDEN: Final = "***"
_REFERENCE: Final = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE: Final = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_IN_A_FILE: Final = re.compile(r"\$\{file:([^}]*)\}")
# References in which nothing but a name or a path stands.
_NAMED: Final = re.compile(
    r"\$\{(?:(?:env:)?[A-Za-z_][A-Za-z0-9_]{0,63}|input:[A-Za-z0-9_-]{1,64}|file:[A-Za-z0-9_./ ~-]{1,256})\}"
)
_MOST_REFERENCES: Final = 1000  # in one text
_LONGEST: Final = 65_536  # characters of a text that is shown
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
_MARK: Final = 0xE000  # Unicode's private use: where a reference stood, while its surroundings are looked at
_MARKS: Final = re.compile(f"([{chr(_MARK)}-{chr(0xF8FF)}])")
_LAUNCHED: Final = re.compile(r"bascule(?:\[[a-z,]*\])?(?:(?:==|@|>=|~=).*)?")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


class Unusable(Exception):
    """Why an entry cannot become a server here."""


class Secret(msgspec.Struct, frozen=True):
    """A value that gets a file of its own."""

    name: str  # what it is: GITHUB_TOKEN, Authorization
    file: str
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, and what became of it."""

    entry: Entry
    name: str = ""  # here; also that of the server which it is the same as
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)  # as they stand in the configuration
    secrets: tuple[Secret, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""  # why it is not taken over
    also_in: tuple[str, ...] = ()  # other clients that have it

    @property
    def shown(self) -> str:
        """What it starts or calls, whole, but for its secrets."""
        if self.options.get("url"):
            return _IN_A_FILE.sub(HIDDEN, self.options["url"])
        if self.options:
            words = [self.options["command"], *self.options.get("args", ())]
            return " ".join(_quoted(_IN_A_FILE.sub(HIDDEN, word)) for word in words)
        return _outline(self.entry)


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the place where servers are taken over to."""

    folder: str  # of the user
    secrets: str  # the folder of their files
    windows: bool = False
    addresses: Collection[tuple[str, int]] = ()  # where this Bascule answers
    variables: Collection[str] = ()  # of the environment, by their names
    exists: Callable[[str], bool] = lambda file: False  # whether there is such a file of a secret


def address_of(url: str) -> tuple[str, int] | None:
    """(host, port) that *url* reaches, with one name for this machine; None if it is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower(), 0)
    except ValueError:
        return None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        return None
    return ("localhost" if parts.hostname in _LOCAL else parts.hostname), port


def adopted(
    entries: Sequence[Entry], present: Mapping[str, Any], home: Home, *, known: Callable[[str], str | None]
) -> list[Server]:
    """What each of *entries* comes to, beside the servers that are *present* in the configuration.

    *known* reads the file of a secret, so that a server that was taken over before is found again. The same server
    of several clients is one, of the first that has it.
    """
    had = {_canonical(options, known): name for name, options in present.items() if isinstance(options, dict)}
    found: dict[int, Server] = {}
    mine: dict[Any, int] = {}
    taken = set(present)
    # A server that is in use has the better right to its name than one that is switched off.
    for number in sorted(range(len(entries)), key=lambda each: entries[each].disabled):
        server = _adopted(entries[number], taken, home)
        what = _canonical(server.options, {each.file: each.value for each in server.secrets}.get)
        if what is None or server.skipped:
            pass
        elif what in had:
            server = _same(server, had[what], f"it is there already, as {had[what]}")
        elif what in mine:
            first = found[mine[what]]
            found[mine[what]] = msgspec.structs.replace(first, also_in=(*first.also_in, server.entry.client))
            server = _same(server, first.name, f"it is the same as {first.name} of {first.entry.client}")
        else:
            mine[what] = number
            taken.add(server.name)
        found[number] = server
    return [found[number] for number in sorted(found)]


def _same(server: Server, name: str, why: str) -> Server:
    return msgspec.structs.replace(server, name=name, skipped=why)


def _adopted(entry: Entry, taken: Collection[str], home: Home) -> Server:
    name = _name(entry.name, taken)
    work = _Translation(entry, name, home)
    try:
        if entry.problem:
            raise Unusable(entry.problem)
        if why := _loop(entry, home.addresses):
            raise Unusable(why)
        options = work.options()
    except Unusable as error:
        return Server(entry=entry, name=name, skipped=str(error))
    notes = (*entry.notes, *dict.fromkeys(work.notes))
    return Server(entry=entry, name=name, options=options, secrets=tuple(work.secrets), notes=notes)


def _name(said: str, taken: Collection[str]) -> str:
    base = slug(said)[:MAX_NAME].strip("_") or "server"
    found, number = base, 2
    while found in taken:
        found = f"{base[: MAX_NAME - len(str(number)) - 1]}_{number}"
        number += 1
    return found


def _loop(entry: Entry, addresses: Collection[tuple[str, int]]) -> str:
    """Why the entry is Bascule itself; "" if it is not."""
    if any(address_of(text) in addresses for text in (entry.url, *entry.args) if "://" in text):
        return "it is this Bascule itself"
    words = [re.split(r"[/\\]", entry.command)[-1].lower().removesuffix(".exe"), *entry.args]
    at = next((number for number, word in enumerate(words) if _LAUNCHED.fullmatch(word)), None)
    launched = at is not None and (at == 0 or words[0] in ("uvx", "uv", "pipx") or words[at - 1] == "-m")
    if at is None or not launched or words[at + 1 : at + 2] == ["pack"]:
        return ""
    return "it is Bascule itself: what stands behind it belongs into `servers`, with its own command or URL"


def _canonical(options: Mapping[str, Any], known: Callable[[str], str | None]) -> Any:
    """What a server is, to be compared: with its secrets in their places, and in no order."""

    def whole(value: Any) -> str:
        return _IN_A_FILE.sub(lambda found: known(found[1]) or found[0], str(value))

    if not options.get("command") and not options.get("url"):
        return None
    env: Mapping[str, Any] = options.get("env") or {}
    headers: Mapping[str, Any] = options.get("headers") or {}
    return (
        whole(options.get("command", "")),
        tuple(whole(each) for each in options.get("args") or ()),
        frozenset((name, whole(each)) for name, each in env.items()),
        whole(options.get("cwd") or ""),  # `uv run server.py` is another server in another folder
        whole(options.get("url", "")),
        frozenset((name.lower(), whole(each)) for name, each in headers.items()),
    )


def _quoted(word: str) -> str:
    return word if word and not re.search(r"[\s\"'\\]", word) else f"'{word}'" if "'" not in word else f'"{word}"'


def _outline(entry: Entry) -> str:
    """What an entry that is not taken over would start or call."""
    if entry.url:
        return masked(entry.url, plainness.of_url)
    words = [masked(entry.command, plainness.of_shell)]
    for number, word in enumerate(entry.args):
        before = entry.args[number - 1] if number else ""
        words.append(_quoted(masked(word, partial(plainness.of_argument, before=before))))
    return " ".join(words).strip()


def masked(text: str, split: Split) -> str:
    """*text* without its secret parts, as *split* tells them; references stay, for they are none."""
    references: list[str] = []

    def marked(found: "re.Match[str]") -> str:
        references.append(found[0])
        return chr(_MARK + len(references) - 1)

    bare = _MARKS.sub(HIDDEN, text) if len(text) < _LONGEST else HIDDEN
    bare = _NAMED.sub(marked, bare) if bare.count("${") <= _MOST_REFERENCES else HIDDEN
    shown = []
    for piece in split(bare):
        parts = _MARKS.split(piece.text) if piece.secret else [piece.text]
        shown += [part if not piece.secret or not part or _MARKS.fullmatch(part) else HIDDEN for part in parts]
    return _MARKS.sub(lambda found: references[ord(found[0]) - _MARK], "".join(shown))


# ---- one entry -----------------------------------------------------------------------------------


class _Translation:
    """An entry on its way into our words."""

    def __init__(self, entry: Entry, name: str, home: Home) -> None:
        self._entry = entry
        self._name = name
        self._home = home
        self.secrets: list[Secret] = []
        self.notes: list[str] = []
        self._paths: Any = ntpath if home.windows else posixpath

    def options(self) -> dict[str, Any]:
        entry = self._entry
        if entry.url:
            found: dict[str, Any] = {"url": self._translated(entry.url, "url", plainness.of_url)}
            if not re.match(r"https?://[^/\s]", entry.url) and not entry.url.startswith("${"):
                raise Unusable("its URL is not one of http or https")
            headers = {
                name: self._translated(value, name, partial(plainness.of_header, name))
                for name, value in entry.headers.items()
            }
            return {**found, **({"headers": headers} if headers else {})}
        found = {"command": self._command()}
        if entry.args:
            found["args"] = list(self._args())
        env = {
            name: self._translated(value, name, partial(plainness.of_variable, name))
            for name, value in entry.env.items()
        }
        cwd = self._cwd()
        return {**found, **({"env": env} if env else {}), **({"cwd": cwd} if cwd else {})}

    def _command(self) -> str:
        said = self._entry.command
        is_path = re.match(r"(?:~|\.{1,2})?/|[A-Za-z]:[/\\]|\$\{", said) is not None
        if re.search(r"[;&|<>`\n]|\$\(", said) or (re.search(r"\s", said.strip()) and not is_path):
            raise Unusable("its command is text for a shell, and Bascule starts none: split it into command and args")
        return self._translated(said, "command", lambda text: [Piece(text, plainness.looks_made_up(text))])

    def _args(self) -> Iterator[str]:
        before = ""
        for number, word in enumerate(self._entry.args, 1):
            option = before.lstrip("-") if before.startswith("-") and not plainness.looks_made_up(before) else ""
            named = re.match(r"-{0,2}([A-Za-z_][A-Za-z0-9_-]{0,63})(?:=|: ?(?!//))", word)
            name = named[1] if named and not plainness.looks_made_up(named[1]) else option or f"arg_{number}"
            yield self._translated(word, name, partial(plainness.of_argument, before=before))
            before = word

    def _cwd(self) -> str | None:
        """Servers of a project start in its folder, as they did."""
        said, folder = self._entry.cwd, self._entry.folder
        if said is None:
            return folder
        found = self._translated(said, "cwd", lambda text: [Piece(text, secret=False)])
        if self._paths.isabs(found) or found.startswith(("~", "${")):
            return found
        if folder is None:
            raise Unusable("its cwd is relative, and to what only its client knows")
        return str(self._paths.join(folder, found))

    # ---- references and secrets

    def _translated(self, text: str, name: str, split: Split) -> str:
        """*text* in our words. *split* tells its secret parts."""
        if _MARKS.search(text) or "\0" in text or "\r" in text or not _is_unicode(text):
            raise Unusable(f"{name} holds characters that cannot be taken over")
        references: list[str] = []

        def marked(found: "re.Match[str]") -> str:
            said = self._reference(found[1], name)
            if not said.startswith("${"):
                return said
            references.append(said)
            return chr(_MARK + len(references) - 1)

        if text.count("${") > _MOST_REFERENCES:
            raise Unusable(f"{name} holds more than {_MOST_REFERENCES} references")
        bare = _REFERENCE.sub(marked, text)
        if "${" in bare:
            raise Unusable(f"{name} holds a ${{…}} that only its client understands")
        parts = [part for piece in split(bare) for part in self._part(piece, name)]
        return _MARKS.sub(lambda found: references[ord(found[0]) - _MARK], "".join(parts))

    def _part(self, piece: Piece, name: str) -> Iterator[str]:
        if not piece.secret:
            yield piece.text
            return
        for text in _MARKS.split(piece.text):
            core = text.strip()
            if not core or _MARKS.fullmatch(text):
                yield text
                continue
            # A file is read without the white space around what it says.
            begin = text.index(core)
            yield text[:begin] + self._file(name, core) + text[begin + len(core) :]

    def _file(self, name: str, value: str) -> str:
        base = f"{self._name}_{_UNSAFE.sub('_', name).strip('_')[:64] or 'value'}"
        mine = {each.file for each in self.secrets}
        file, number = self._paths.join(self._home.secrets, base), 2
        while file in mine or self._home.exists(file):
            file, number = self._paths.join(self._home.secrets, f"{base}_{number}"), number + 1
        self.secrets.append(Secret(name, file, value))
        return f"${{file:{file}}}"

    def _reference(self, said: str, name: str) -> str:
        """What `${said}` is here: a reference of ours, or the text that it stands for."""
        folder = self._entry.folder
        match said.partition(":"):
            case "userHome", "", "":
                return self._home.folder
            case (("pathSeparator" | "/"), "", ""):
                return str(self._paths.sep)
            case (("workspaceFolder" | "workspaceRoot" | "workspaceFolderBasename"), "", ""):
                if folder is None:
                    raise Unusable(f"{name} holds ${{{said}}}: which folder that is, only its client knows")
                return str(self._paths.basename(folder)) if said.endswith("Basename") else folder
            case "input", _, id:
                variable = _UNSAFE.sub("_", id).replace("-", "_").upper()
                variable = variable if re.match(r"[A-Z_]", variable) else f"_{variable}"
                about = f" ({self._entry.asked_for[id]})" if self._entry.asked_for.get(id) else ""
                self._asks_for(variable, f"VS Code asked you for it{about}")
                return f"${{env:{variable}}}"
        if found := _VARIABLE.fullmatch(said):
            if found[2] is None:
                if found[1] not in self._home.variables:
                    self._asks_for(found[1], "it is not set here")
                return f"${{env:{found[1]}}}"
            if plainness.is_plain(found[1], found[2]):
                return f"${{{found[1]}:-{found[2]}}}"
            self._asks_for(found[1], "its default in the client's file may be a secret, and is left out")
            return f"${{env:{found[1]}}}"
        raise Unusable(f"{name} holds a ${{…}} that only its client understands")

    def _asks_for(self, variable: str, why: str) -> None:
        self.notes.append(f"export {variable} before you start Bascule: {why}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
