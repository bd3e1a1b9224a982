"""Ready rules: amounts, recipients, paths, dates, counts. PURE.

A condition tells what it found, or None where all is well; it raises Undecidable where the value is not there or
is not of the type it reads. Where a value could be read in two ways, it has to be well in both.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

from bascule.policy.facts import Facts, Undecidable
from bascule.policy.guardrails import DateWindow, Guardrail, MaxAmount, PathWithin, RecipientsWithin

Condition: TypeAlias = Callable[[Facts], str | None]

MAX_VALUES: Final = 10_000  # at one field
MAX_TEXT: Final = 65_536

_FIELD: Final = re.compile(r"[^.\[\]?\s]+(?:\[\])*(?:\.[^.\[\]?\s]+(?:\[\])*)*\??")


class BadRule(Exception):
    """The rule cannot mean anything; the message says why."""


def condition_of(rule: Guardrail) -> tuple[str, Condition]:
    """The name of the ready rule that *rule* is, in words, and the rule itself. Raises BadRule."""
    if (amount := rule.max_amount) is not None:
        return f"max_amount {amount.field} <= {amount.limit:g}", _max_amount(amount)
    if (within := rule.recipients_within) is not None:
        own = ("the caller's own",) if within.self_only else ()
        return f"recipients_within {within.field}: {', '.join((*within.domains, *own))}", _recipients(within)
    if (paths := rule.path_within) is not None:
        return f"path_within {paths.field}: {', '.join(paths.roots)}", _path_within(paths)
    if (window := rule.date_window) is not None:
        return f"date_window {window.field}", _date_window(window)
    if (calls := rule.max_per_session) is not None:
        return f"max_per_session {calls}", _max_per_session(calls)
    if (depth := rule.max_chain_depth) is not None:
        return f"max_chain_depth {depth}", _max_chain_depth(depth)
    raise BadRule("no ready rule")


def field_of(rule: Guardrail) -> "Field | None":
    """Where in the arguments a ready rule looks."""
    named = rule.max_amount or rule.recipients_within or rule.path_within or rule.date_window
    return None if named is None else Field(named.field)


# ---- fields


class Field:
    """A path into the arguments: `amount`, `order.total`, `items[].price`; with `?` it may be absent, or null.

    A list at its end is each of its elements.
    """

    def __init__(self, text: str) -> None:
        if not _FIELD.fullmatch(text):
            raise BadRule(f"field {text!r} is not a path such as amount, order.total or items[].price")
        self.text = text.removesuffix("?")
        self.optional = text.endswith("?")
        # "[]" is a step of its own: into each element.
        self.steps = tuple(step for step in re.split(r"\.|(?=\[\])", self.text) if step)
        self.name = self.steps[0] if len(self.steps) == 1 else None

    def values(self, facts: Facts) -> list[Any]:
        """Everything that stands there. Raises Undecidable where something is missing."""
        if self.name is not None and type(facts.args) is dict:
            # Most fields are plain members.
            value = facts.args.get(self.name)
            if value is not None and type(value) is not list:
                return [value]
        found = list(self._reach(facts.args, 0))
        if len(found) > MAX_VALUES:
            raise Undecidable(f"`{self.text}` holds more than {MAX_VALUES} values")
        return found

    def _reach(self, value: Any, at: int) -> Iterator[Any]:
        if at == len(self.steps):
            yield from self._leaves(value)
        elif value is None and at:
            yield from self._absent()
        elif self.steps[at] == "[]":
            if not isinstance(value, list):
                raise Undecidable(f"`{self.text}` is not a list where it should be")
            for element in value:
                yield from self._reach(element, at + 1)
        elif value is None and self.optional:
            return
        elif not isinstance(value, dict):
            raise Undecidable(f"`{self.text}` is not there" if value is None else f"`{self.text}` leads into no object")
        elif self.steps[at] not in value:
            yield from self._absent()
        else:
            yield from self._reach(value[self.steps[at]], at + 1)

    def _leaves(self, value: Any) -> Iterator[Any]:
        if value is None:
            yield from self._absent()
        elif isinstance(value, list):
            if None in value:
                raise Undecidable(f"`{self.text}` holds null")
            yield from value
        else:
            yield value

    def _absent(self) -> Iterator[Any]:
        if not self.optional:
            raise Undecidable(f"`{self.text}` is missing")
        return iter(())


def _texts(field: Field, facts: Facts) -> Iterator[str]:
    for value in field.values(facts):
        if not isinstance(value, str):
            raise Undecidable(f"`{field.text}` is not text")
        if len(value) > MAX_TEXT:
            raise Undecidable(f"`{field.text}` is longer than {MAX_TEXT} characters")
        yield value


# ---- amounts


def _max_amount(options: MaxAmount) -> Condition:
    field, limit = Field(options.field), options.limit
    if not 0 <= limit < float("inf"):
        raise BadRule("the limit is not a number from 0 up")

    def condition(facts: Facts) -> str | None:
        for value in field.values(facts):
            # A bool is an int in Python, and no amount.
            if type(value) is not int and type(value) is not float:
                raise Undecidable(f"`{field.text}` is not a number")
            if not 0 <= value <= limit:
                return f"`{field.text}` has to be from 0 to {limit:g}"
        return None

    return condition


# ---- recipients

# RFC 5322 atext, without what can mean a way to go (`!`, `%`), a program or a file to some mail servers.
_ATOM: Final = r"[A-Za-z0-9#&'*+=?^_{}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = rf"(?P<local>(?!-){_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})+)"
_NAME: Final = r"(?:\"(?:[^\"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*+\"[ \t]*+|[^\"<>@,;:()\[\]\\\x00-\x08\x0a-\x1f\x7f]*+)"
_IN_ANGLES: Final = _ADDRESS.replace("<local>", "<local2>").replace("<domain>", "<domain2>")
# Nothing in it is tried twice (`*+`): the text is a stranger's, and may be long.
_ONE: Final = re.compile(rf"[ \t]*+(?:{_ADDRESS}|{_NAME}<{_IN_ANGLES}>)[ \t]*+(?:[,;]|\Z)")
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_MAX_ADDRESSES: Final = 1000


def addresses(text: str) -> list[tuple[str, str]]:
    """(local part, domain in lower case) of each address in *text*: `a@b.test`, `Name <a@b.test>`, several of them.

    Raises ValueError for everything that mail programs could read in another way: quoted local parts, comments,
    groups, routes, addresses in other scripts, control characters.
    """
    found: list[tuple[str, str]] = []
    at = 0
    text = text.rstrip(" \t")
    while at < len(text) or not found:
        one = _ONE.match(text, at)
        if one is None or len(found) == _MAX_ADDRESSES:
            raise ValueError("not a list of addresses")
        found.append((one["local"] or one["local2"], (one["domain"] or one["domain2"]).lower()))
        at = one.end()
    if text.endswith((",", ";")):
        raise ValueError("a separator with no address after it")
    return found


def _recipients(options: RecipientsWithin) -> Condition:
    field, own = Field(options.field), options.self_only
    domains = frozenset(domain.lower() for domain in options.domains)
    for domain in domains:
        if not _DOMAIN.fullmatch(domain):
            raise BadRule(f"{domain!r} is not a domain such as example.com; write other scripts as xn--…")
    if not domains and not own:
        raise BadRule("neither `domains` nor `self_only`: nobody could be written to")
    # One plain address, which most calls have: judged without taking it apart.
    plain = re.compile(
        rf"(?!-){_ATOM}(?:\.{_ATOM})*@(?:{'|'.join(map(re.escape, sorted(domains))) or '(?!)'})",
        re.IGNORECASE | re.ASCII,
    )

    def condition(facts: Facts) -> str | None:
        self_address = _own_address(facts) if own else None
        for text in _texts(field, facts):
            if plain.fullmatch(text):
                continue
            try:
                found = addresses(text)
            except ValueError:
                raise Undecidable(f"`{field.text}` is not a list of plain e-mail addresses") from None
            for local, domain in found:
                if domain not in domains and (local.lower(), domain) != self_address:
                    return f"`{field.text}` names a recipient who may not be written to"
        return None

    return condition


def _own_address(facts: Facts) -> tuple[str, str]:
    attributes = facts.caller.get("attributes")
    email = attributes.get("email") if isinstance(attributes, Mapping) else None
    try:
        found = addresses(email) if isinstance(email, str) else []
    except ValueError:
        found = []
    if len(found) != 1:
        raise Undecidable("the caller has no attribute `email` that is one address")
    ((local, domain),) = found
    return local.lower(), domain


# ---- paths

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}|%[A-Za-z_]\w*%|\$[A-Za-z_({]")
_BOTH: Final = re.compile(r"[/\\]")
_SLASH: Final = re.compile("/")
# Characters that some file systems and libraries fold into separators and dots.
_FOLDED: Final = frozenset("\uff0f\uff3c\uff0e\u2024\u2025\u2215\u2044\u29f5\u29f9\ufe68\ufe52")
# Names of letters and digits that none of this can happen to, so that most paths are judged in a microsecond.
_SIMPLE: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*+)++")

Parts: TypeAlias = tuple[str, ...]  # of a path: its drive, "/" or "" for a relative one, and then its names


class BadPath(Exception):
    """The text is no path that means the same everywhere."""


def _parts(text: str, separators: re.Pattern[str]) -> Parts:
    """The path that *text* is, `.` and `..` resolved. A path that climbs out of where it starts keeps its `..`."""
    drive = _DRIVE.match(text)
    rest = text[2:] if drive else text
    absolute = rest[:1] in ("/", "\\")
    if drive and not absolute:
        raise BadPath("it is relative to the folder of a drive")
    parts: list[str] = []
    for name in separators.split(rest):
        if name == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif name == "..":
            # Above the root there is nothing, but above a relative start there is.
            parts += [] if absolute else [".."]
        elif name not in ("", "."):
            if not name.rstrip(" ."):
                raise BadPath("a name of dots and spaces")
            parts.append(name)
    return (drive[0].lower() if drive else "/" if absolute else "", *parts)


def _plain(text: str) -> str:
    """*text* as a path, `file:///` taken off. Raises BadPath for what could be read in more ways than one."""
    if not text or not text.strip():
        raise BadPath("it is empty")
    if any(char < " " or char == "\x7f" or char in _FOLDED for char in text):
        raise BadPath("it holds control characters, or such as look like separators")
    if text[0] == "~" or _ENCODED.search(text):
        raise BadPath("it holds `~`, a variable or percent-encoding")
    if text[:8].lower() == "file:///":
        text = text[7:]
        if ".." in text or "?" in text or "#" in text or "\\" in text or _DRIVE.match(text[1:]):
            raise BadPath("a URI with more than a path in it")
    if _SCHEME.match(text) or text[:2] in ("//", "\\\\", "/\\", "\\/"):
        raise BadPath("it is a URI, or a path on another machine")
    return text


def _inside(path: Parts, root: Parts) -> bool:
    if ".." in path:
        return False
    if root[0].endswith(":"):  # Windows: no difference of case, and `:` begins a stream of the file
        path, root = tuple(part.lower() for part in path), tuple(part.lower() for part in root)
        if any(":" in part or part != part.rstrip(" .") for part in path[1:]):
            return False
    return path[: len(root)] == root


def _path_within(options: PathWithin) -> Condition:
    field = Field(options.field)
    try:
        roots = tuple(_parts(_plain(root), _BOTH) for root in options.roots)
    except BadPath as error:
        raise BadRule(f"not a root: {error}") from None
    if not roots or any(".." in root for root in roots):
        raise BadRule("`roots` names no folder, or one above where it starts")

    prefixes = tuple("/".join(("", *root[1:], "")) for root in roots if root[0] == "/")

    def condition(facts: Facts) -> str | None:
        for text in _texts(field, facts):
            if text.startswith(prefixes) and _SIMPLE.fullmatch(text):
                continue
            try:
                plain = _plain(text)
                # A backslash separates on one machine and is part of a name on another.
                readings = {_parts(plain, _BOTH), _parts(plain, _BOTH if _DRIVE.match(plain) else _SLASH)}
            except BadPath as error:
                raise Undecidable(f"`{field.text}` is not a plain path: {error}") from None
            if not all(any(_inside(path, root) for root in roots) for path in readings):
                return f"`{field.text}` leads outside of the folders that are allowed"
        return None

    return condition


# ---- dates

_DATE: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)


def day_of(text: str) -> date:
    """The day, in UTC, of a date or a time in ISO 8601; a time without a zone is in UTC. Raises ValueError."""
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError("not a date")
    day, time, zone = found.groups()
    if time is None:
        return date.fromisoformat(day)
    moment = datetime.fromisoformat(f"{day}T{time[:15]}{'+00:00' if zone is None or zone in 'Zz' else zone}")
    try:
        return moment.astimezone(UTC).date()
    except OverflowError:
        raise ValueError("not a date of the calendar") from None


def _date_window(options: DateWindow) -> Condition:
    field, ahead, back = Field(options.field), options.days_ahead, options.days_back
    if ahead is None and back is None:
        raise BadRule("neither `days_ahead` nor `days_back`: every date would do")
    if max(ahead or 0, back or 0) > 36_500:
        raise BadRule("more than a hundred years")

    def condition(facts: Facts) -> str | None:
        today = facts.now.astimezone(UTC).date()
        for text in _texts(field, facts):
            try:
                days = (day_of(text) - today).days
            except ValueError:
                raise Undecidable(f"`{field.text}` is not a date such as 2026-07-28 or 2026-07-28T09:00:00Z") from None
            if back is not None and days < -back:
                return f"`{field.text}` is more than {back} days ago"
            if ahead is not None and days > ahead:
                return f"`{field.text}` is more than {ahead} days ahead"
        return None

    return condition


# ---- counts


def _count(facts: Facts, name: str) -> int:
    value = facts.session.get(name)
    if type(value) is not int or value < 0:
        raise Undecidable(f"`session.{name}` is not known")
    return value


def _max_per_session(most: int) -> Condition:
    def condition(facts: Facts) -> str | None:
        spent = _count(facts, "tool_calls") >= most
        return f"a session may call this {most} times" if spent else None

    return condition


def _max_chain_depth(most: int) -> Condition:
    def condition(facts: Facts) -> str | None:
        deep = _count(facts, "depth") > most
        return f"the call has passed more than {most} gateways before" if deep else None

    return condition
