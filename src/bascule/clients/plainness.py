"""Which values of a configuration may be shown and copied, and which are secrets. PURE.

A value is plain when it is known to be: a path, a flag, a number, a level of logging, the name of a package. In doubt
it is a secret, which costs nothing: a server gets the same text from a file of its own.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_TELLING: Final = re.compile(
    r"key|token|secret|pass|pwd|cred|auth|session|cookie|sign|private|bearer|dsn|conn|webhook|salt|seed|cert|jwt|otp"
    r"|licen[cs]e|account|(?:^|[^a-z])(?:pat|pin|sid|user|code|access)(?:$|[^a-z])",
    re.IGNORECASE,
)
# How issuers begin their tokens.
_ISSUED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:[spr]k[-_][A-Za-z0-9]|gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|(?:AKIA|ASIA)[A-Z0-9]|AIza|ya29\."
    r"|(?:npm|hf|gsk|gw|pypi|shpat|dop_v1)[-_]|eyJ)"
)
_WORD: Final = re.compile(r"[A-Za-z0-9+_]{16,}|[A-Za-z0-9+_-]{20,}")
_HEXADECIMAL: Final = re.compile(r"(?<![A-Za-z0-9])(?=[0-9]*[A-Fa-f])(?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{10,}(?![A-Za-z0-9])")
_NUMBER: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,6})?")
_WORDS: Final = frozenset({
    *("", "true", "false", "yes", "no", "on", "off", "none", "null", "auto", "always", "never", "default", "all"),
    *("trace", "debug", "info", "notice", "warn", "warning", "error", "critical", "fatal", "silent", "verbose"),
    *("quiet", "production", "development", "staging", "test", "dev", "prod", "local", "stdio", "http", "sse"),
    *("streamable-http", "json", "text", "utf-8", "utf8", "c", "c.utf-8", "en", "en_us.utf-8", "utc", "localhost"),
    *("127.0.0.1", "0.0.0.0"),
})  # fmt: skip
_PLAIN_NAMES: Final = re.compile(
    r"(?:^|_)(?:path|dir|directory|folder|root|file|home|level|env|mode|port|host|region|zone|tz|timezone|lang|locale"
    r"|format|debug|verbose|timeout|limit|size|count|version|encoding|unbuffered|name|org|owner|project)s?$",
    re.IGNORECASE,
)
_PATH: Final = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^\x00-\x1f:@?&=%]*|~|\.{1,2}")
_SIMPLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9 .,_/-]{0,63}")
_FLAG: Final = re.compile(r"-[A-Za-z]{1,3}|--[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*|--?")
# Of a positional argument: words without digits, names of packages with their versions, and images.
_ARGUMENT: Final = re.compile(
    r"[A-Za-z_][A-Za-z._-]*|(?:@[a-z0-9][a-z0-9._-]*/)?[a-z][a-z0-9._/-]*(?:\[[a-z,-]+\])?(?:(?:@|==|:)[A-Za-z0-9.^~*_-]+)?",
)
_ASSIGNMENT: Final = re.compile(r"(?P<name>-{0,2}[A-Za-z_][A-Za-z0-9_.-]*)(?P<sign>=|: ?)(?P<value>.*)", re.DOTALL)
_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<rest>.*)", re.DOTALL | re.IGNORECASE)
_SCHEMES: Final = frozenset({"bearer", "basic", "token", "apikey", "digest", "negotiate"})
_OPEN_HEADERS: Final = frozenset({"accept", "accept-language", "content-type", "user-agent", "mcp-protocol-version"})
_SHELL_OPTIONS: Final = frozenset({"-c", "-lc", "-ic", "-ec", "/c", "/k", "-command"})
_SHELL_WORD: Final = re.compile(r"""(?:[^\s"';&|()<>`]|"[^"]*"|'[^']*')+""")
_PARTS_OF_URL: Final = re.compile(r"[/?&#;=]|[^/?&#;=]+")


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    secret: bool


def is_telling(name: str) -> bool:
    """Whether a *name* says that its value is a secret."""
    return _TELLING.search(name) is not None


def looks_made_up(text: str) -> bool:
    """Whether something in *text* looks as if a machine had made it up: long, and of letters and digits mixed."""
    if _ISSUED.search(text) or _HEXADECIMAL.search(text):
        return True
    for found in _WORD.finditer(text):
        word = found[0]
        kinds = sum(any(test(each) for each in word) for test in (str.islower, str.isupper, str.isdigit))
        # A name in lower case that has a year in it is none; forty hexadecimal digits are.
        digits = sum(each.isdigit() for each in word)
        if kinds == 3 or (kinds == 2 and digits >= 3) or digits >= 12 or len(word) > 40:
            return True
    return False


def is_plain(name: str, value: str) -> bool:
    """Whether the variable or the option *name* may be shown with its *value*."""
    if value.lower() in _WORDS:
        return True
    if is_telling(name) or looks_made_up(value):
        return False
    if _NUMBER.fullmatch(value) or _PATH.fullmatch(value):
        return True
    return _PLAIN_NAMES.search(name) is not None and _SIMPLE.fullmatch(value) is not None


def of_variable(name: str, value: str) -> list[Piece]:
    """The value of an environment variable, or of an option, with its secret parts apart."""
    if not is_telling(name) and _URL.fullmatch(value):
        return list(of_url(value))
    return [Piece(value, not is_plain(name, value))]


def of_header(name: str, value: str) -> list[Piece]:
    """The value of a header. What it begins with may say how the rest is meant."""
    if name.lower() in _OPEN_HEADERS and not looks_made_up(value):
        return [Piece(value, secret=False)]
    scheme, space, rest = value.partition(" ")
    if space and scheme.lower() in _SCHEMES:
        return [Piece(scheme + space, secret=False), Piece(rest, secret=bool(rest.strip()))]
    plain = value.lower() in _WORDS or (not is_telling(name) and _NUMBER.fullmatch(value) is not None)
    return [Piece(value, not plain and value.lower().strip() not in _SCHEMES)]


def of_url(value: str) -> Iterator[Piece]:
    """A URL: its user, what its query says, and what in its path looks made up are secrets."""
    found = _URL.fullmatch(value)
    if found is None:
        yield Piece(value, looks_made_up(value))
        return
    yield Piece(found["scheme"], secret=False)
    host, slash, rest = re.fullmatch(r"([^/?#]*)([/?#]?)(.*)", found["rest"], re.DOTALL).groups()  # type: ignore[union-attr]  # any text matches
    user, at, host = host.rpartition("@")
    if at:
        yield Piece(user, secret=bool(user))
        yield Piece(at, secret=False)
    yield Piece(host, secret=False)
    in_query, name = slash in "?#" and bool(slash), ""
    if slash:
        yield Piece(slash, secret=False)
    for match in _PARTS_OF_URL.finditer(rest):
        part = match[0]
        if part in "/?&#;=":
            in_query = in_query or part in "?#"
            yield Piece(part, secret=False)
        elif not in_query:
            yield Piece(part, _is_doubtful_step(part))
        elif rest[match.end() : match.end() + 1] == "=":
            name = part
            yield Piece(part, looks_made_up(part))
        else:
            yield Piece(part, not is_plain(name, part))
            name = ""


def _is_doubtful_step(part: str) -> bool:
    """Whether a step of a URL's path may be what lets in whoever knows it: many are, as of web hooks."""
    digits, letters = sum(map(str.isdigit, part)), sum(map(str.isalpha, part))
    return looks_made_up(part) or (len(part) >= 8 and digits >= 3 and (letters > 0 or digits > 8))


def of_argument(value: str, before: str = "") -> list[Piece]:
    """An argument of a command, which stands behind the argument *before*."""
    if before.lower() in _SHELL_OPTIONS:
        return list(of_shell(value))
    if _FLAG.fullmatch(value):
        return [Piece(value, looks_made_up(value))]
    option = before.lstrip("-") if before.startswith("-") else ""
    if option.lower() in ("h", "header", "headers") and (said := _ASSIGNMENT.fullmatch(value)):
        return [Piece(said["name"] + said["sign"], secret=False), *of_header(said["name"], said["value"])]
    if value.partition(" ")[0].lower() in _SCHEMES and " " in value:
        return of_header(option, value)
    if _URL.fullmatch(value):
        return [Piece(value, secret=True)] if is_telling(option) else list(of_url(value))
    if said := _ASSIGNMENT.fullmatch(value):
        head = Piece(said["name"] + said["sign"], secret=False)
        inner = of_header if said["sign"] != "=" else of_variable
        if not looks_made_up(said["name"]) and not _PATH.fullmatch(value) and not _is_package(value, said["name"]):
            return [head, *inner(said["name"].lstrip("-"), said["value"])]
    if is_telling(option) and not value.startswith("-"):
        return [Piece(value, value.lower() not in _WORDS)]
    return [Piece(value, not (is_plain(option, value) or _is_word(value)))]


def _is_package(value: str, name: str) -> bool:
    """`package==1.0`, `image:tag`."""
    return "--" not in name and not is_telling(name) and _is_word(value)


def _is_word(value: str) -> bool:
    return _ARGUMENT.fullmatch(value) is not None and not looks_made_up(value)


def of_shell(value: str) -> Iterator[Piece]:
    """Text for a shell: each of its words as an argument, so that what it runs can still be read."""
    at, before = 0, ""
    for found in _SHELL_WORD.finditer(value):
        word = found[0]
        yield Piece(value[at : found.start()], secret=False)
        if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
            yield Piece(word[0], secret=False)
            yield from of_argument(word[1:-1], before if before.lower() not in _SHELL_OPTIONS else "")
            yield Piece(word[0], secret=False)
        else:
            yield from of_argument(word, before)
        at, before = found.end(), word
    yield Piece(value[at:], secret=False)
