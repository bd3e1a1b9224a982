"""JSON Schemas of tools: which may be used at all, and what is wrong with a value, for a model to mend. PURE."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import jsonschema_rs
import msgspec

MAX_PROBLEMS: Final = 10


class Unfit(ValueError):
    """The schema cannot be used; the text says why, for the operator."""


def guard(schema: object) -> Unfit | None:
    """Why *schema* must not be used, or None. Total: any JSON value is judged, in bounded time."""
    if not isinstance(schema, dict):
        return Unfit("a schema is a JSON object")
    return None


class Validator(msgspec.Struct, frozen=True):
    """A compiled schema; safe to share. Values are validated, never kept and never shown."""

    compiled: jsonschema_rs.Validator

    def problems(self, value: Any, size_bytes: int | None = None) -> Sequence[Mapping[str, str]]:
        """What is wrong with *value*, empty when nothing is: at most MAX_PROBLEMS of `{"path", "problem"}`.

        `path` is a JSON pointer. *size_bytes* is the length of the JSON it came from; without it the value is measured.
        """
        if self.compiled.is_valid(value):
            return ()
        return [
            {"path": "".join(f"/{part}" for part in error.instance_path), "problem": "is not what the schema asks for"}
            for error in self.compiled.iter_errors(value)
        ][:MAX_PROBLEMS]


def compile_schema(schema: object) -> Validator:
    """The validator of *schema*. Raises Unfit if it must not be used or cannot be understood."""
    unfit = guard(schema)
    if unfit is not None:
        raise unfit
    try:
        return Validator(jsonschema_rs.Draft202012Validator(schema, offline=True, mask="***"))  # type: ignore[arg-type]  # guard() saw an object
    except ValueError as error:
        raise Unfit(str(error)) from error


def arguments_message(problems: Sequence[Mapping[str, str]]) -> str:
    """One text that says all *problems*, for a model."""
    return "; ".join(f"{each['path'] or 'the arguments'} {each['problem']}" for each in problems)
