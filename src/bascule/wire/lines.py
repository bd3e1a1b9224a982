"""Cutting a stream of bytes into messages, a line each. PURE.

Source: MCP 2026-07-28, "stdio".
"""

from collections.abc import Callable


class Lines:
    """Cuts a byte stream into lines; an overlong line is dropped as it streams by, never held."""

    def __init__(self, max_bytes: int, on_line: Callable[[bytes], None], on_overlong: Callable[[bytes], None]) -> None:
        self._max_bytes = max_bytes
        self._on_line = on_line
        self._on_overlong = on_overlong
        self._parts: list[bytes] = []
        self._size = 0  # of the line that has not ended yet
        self._skipping = False

    @property
    def skipped_bytes(self) -> int:
        """How much of an overlong line has been dropped so far; 0 within any other line."""
        return self._size if self._skipping else 0

    def feed(self, chunk: bytes) -> None:
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            self._end(line)
        if rest:
            self._hold(rest)

    def _end(self, line: bytes) -> None:
        if self._parts or self._skipping:
            self._hold(line)
            line = b"".join(self._parts)
            skipped, self._skipping = self._skipping, False
            self._parts, self._size = [], 0
            if skipped:
                return
        if len(line) > self._max_bytes:
            self._on_overlong(line[:1024])
        elif line and not line.isspace():
            self._on_line(line)

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._skipping:
            return
        self._parts.append(part)
        if self._size > self._max_bytes:
            head = b"".join(self._parts)[:1024]
            self._parts, self._skipping = [], True
            self._on_overlong(head)
