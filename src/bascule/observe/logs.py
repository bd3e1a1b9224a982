"""What is written to standard error: our own messages, and a line for each call. Standard output stays clean.

Messages come from the standard library's logging and are written at once; calls are told by their records, which
hold no arguments, and are written by a thread, many at a time.
"""

import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from bascule.observe.batches import Batches
from bascule.observe.options import LogsOptions
from bascule.policy.outcome import category_of
from bascule.store.record import Record
from bascule.unhurried import unhurried
from bascule.wire.modern import LISTEN

_TEXT: Final = "bascule: %(message)s"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@+-]+")
_NO_KIND: Final = frozenset({"answered", "failed", "refused", "cancelled"})  # outcomes that are no error of ours
# What somebody has to look at; all else that did not go well is for the caller.
_LEVELS: Final = {"ok": "info", "internal": "error"}


class CallEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One call that is over; the same keys for each."""

    time: str  # when it was over (RFC 3339, UTC)
    level: str
    event: str
    trace_id: str
    caller: str
    method: str
    tool: str
    version: str
    server: str
    category: str
    kind: str  # of our error, "" if it is none
    code: int
    decision: str
    rule: str
    took_ms: float
    cost_usd: float
    attempts: int
    cached: bool
    replayed: bool


class AwayEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was turned away at the door: it is nobody's call."""

    time: str
    level: str
    event: str
    kind: str
    code: int
    note: str


class DropEvent(msgspec.Struct, frozen=True, kw_only=True):
    """So many calls are missing above: there was no room for their lines."""

    time: str
    level: str
    event: str
    calls: int


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of our own."""

    time: str
    level: str
    event: str
    logger: str
    message: str
    exception: str = ""


def event_of(record: Record) -> CallEvent | AwayEvent:
    category = category_of(record.outcome)
    kind = "" if record.outcome in _NO_KIND else record.outcome
    time, level = _date(record.at_us / 1_000_000), _LEVELS.get(category, "warning")
    if record.kind != "call":
        return AwayEvent(time=time, level="warning", event="turned_away", kind=kind, code=record.code, note=record.note)
    return CallEvent(
        time=time,
        level=level,
        event="call",
        trace_id=record.trace_id,
        caller=record.caller,
        method=record.method,
        tool=record.thing,
        version=record.version,
        server=record.server,
        category=category,
        kind=kind,
        code=record.code,
        decision=record.decision,
        rule=record.rule,
        took_ms=record.took_us / 1000,
        cost_usd=record.cost_nano_usd / 1_000_000_000,
        attempts=record.attempts,
        cached=record.cached,
        replayed=record.replayed,
    )


def as_json(event: msgspec.Struct) -> str:
    try:
        encoded = msgspec.json.encode(event)
    except UnicodeEncodeError:
        encoded = b"\xff"  # half of a surrogate pair, in a name that a client made up
    if encoded.isascii():
        return _seen(encoded.decode())
    # Not every standard error can carry more than ASCII, and one that cannot would break the JSON.
    return _seen(json.dumps(msgspec.structs.asdict(event), ensure_ascii=True, separators=(",", ":")))


def _seen(spelt: str) -> str:
    """*spelt* without the one control character of ASCII that JSON lets stand as it is."""
    return spelt.replace("\x7f", "\\u007f")


def as_text(event: msgspec.Struct) -> str:
    """`bascule: call method=tools/call …`: what is empty is left out, and no name can pass for another field."""
    facts = msgspec.structs.asdict(event)
    said = [
        f"{name}={_quoted(value)}" for name, value in facts.items() if value != "" and name not in ("event", "time")
    ]
    return f"bascule: {facts['event']} {' '.join(said)}"


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if _PLAIN.fullmatch(text) else _seen(json.dumps(text, ensure_ascii=True))


class JsonFormatter(logging.Formatter):
    """Messages of the standard library's logging as JSON, one line each."""

    def format(self, record: logging.LogRecord) -> str:
        message = Message(
            time=_date(record.created),
            level=record.levelname.lower(),
            event="message",
            logger=record.name,
            message=record.getMessage(),
            exception=self.formatException(record.exc_info) if record.exc_info else "",
        )
        return as_json(message)


class _Ours(logging.StreamHandler[TextIO]):
    """The one handler that is ours."""


def listen(options: LogsOptions, stream: TextIO) -> None:
    """Write messages to *stream* as *options* say; once for a process."""
    root = logging.getLogger()
    if _handler() is None:
        root.addHandler(_Ours(stream))
        root.setLevel(logging.INFO)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
    adopt(options)


def adopt(options: LogsOptions) -> None:
    """Write messages as *options* say from now on, if any are written."""
    if (handler := _handler()) is not None:
        handler.setFormatter(JsonFormatter() if options.format == "json" else logging.Formatter(_TEXT))


def _handler() -> _Ours | None:
    return next((each for each in logging.getLogger().handlers if isinstance(each, _Ours)), None)


class CallLog:
    """A line for each call."""

    def __init__(self, options: LogsOptions, stream: TextIO) -> None:
        self.options = options
        self._stream = stream
        self._batches: Batches[Record] = Batches("call log", self._write)
        self._told = 0  # of those that were dropped

    @property
    def dropped(self) -> int:
        """Calls that there was no room for."""
        return self._batches.dropped

    def post(self, record: Record) -> None:
        """Never waits, never raises."""
        calls = self.options.calls
        if calls == "all" or (calls == "errors" and record.outcome != "answered" and not _has_left(record)):
            self._batches.put(record)

    def close(self) -> None:
        self._batches.close()

    def _write(self, records: Sequence[Record]) -> None:
        """In the thread. Whoever reads our standard error may be gone; then there is nobody to tell."""
        spelt = as_json if self.options.format == "json" else as_text
        lines = [spelt(event_of(record)) for record in unhurried(records)]
        if (missing := self.dropped - self._told) > 0:
            self._told += missing
            now = _date(datetime.now(UTC).timestamp())
            lines.append(spelt(DropEvent(time=now, level="warning", event="dropped", calls=missing)))
        try:
            self._stream.write("\n".join([*lines, ""]))
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it, or it is closed


def _has_left(record: Record) -> bool:
    """Whether it is a subscription whose client went away, which is how they end."""
    return record.method == LISTEN and record.outcome == "cancelled"


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
