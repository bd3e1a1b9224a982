"""What browsers post."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from bascule.errors import InvalidRequest

MAX_BODY_BYTES: Final = 1024 * 1024  # arguments of a tool are tried from a form
_MAX_FIELDS: Final = 500
_FORM: Final = "application/x-www-form-urlencoded"


async def form_of(request: Request) -> Sequence[tuple[str, str]]:
    """What a form says. Raises InvalidRequest for what no form of ours sends."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest(f"the form is larger than {MAX_BODY_BYTES} bytes")
    if body and kind != _FORM:
        raise InvalidRequest(f"a form is sent as {_FORM}")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_MAX_FIELDS)
    except ValueError as error:  # of its encoding too
        raise InvalidRequest("the form cannot be read") from error
