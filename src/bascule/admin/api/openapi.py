"""The description of all operations, as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1): made from their table."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import bascule
from bascule.admin.actions import LARGEST, Operation, Said, Takes
from bascule.call import Caller

if TYPE_CHECKING:
    from bascule.app import Gateway

_ID: Final = re.compile(r"\{(\w+)\}")
_ID_SCHEMA: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_ERROR: Final = {
    "description": "Refused; the body says why, in the shape of all errors of Bascule.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
# Wrong words, nobody known, not for this caller, nothing there, too late, too much, not now.
_REFUSALS: Final = ("400", "401", "403", "404", "409", "413", "429", "503")
_ERROR_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "data": {
                    "type": "object",
                    "properties": {
                        "code": {"type": "integer"},
                        "kind": {"type": "string"},
                        "category": {"type": "string"},
                        "retryable": {"type": "boolean"},
                        "retry_after_ms": {"type": "integer"},
                        "trace_id": {"type": "string"},
                        "details": {"type": "object"},
                    },
                },
            },
        }
    },
}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    async def described(_: Caller, __: Said) -> Any:
        return document(gateway.actions.operations)

    return [
        Operation(
            name="openapi",
            method="GET",
            path="/api/openapi.json",
            run=described,
            about="This description.",
            scopes=(),
        )
    ]


def document(offered: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of *offered*."""
    paths: dict[str, dict[str, Any]] = {}
    for each in offered:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bascule",
            "version": bascule.__version__,
            "description": "What operators can ask a running gateway for.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


def _operation(each: Operation) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.about,
        "tags": [each.name.partition(".")[0]],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _ID_SCHEMA} for name in _ID.findall(each.path)
        ],
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}},
            **dict.fromkeys(_REFUSALS, _ERROR),
        },
    }
    if each.scopes:
        said["x-scopes"] = list(each.scopes)
        said["description"] = f"Needs {' and '.join(each.scopes)}" + (", by that name." if each.named else ".")
    if each.method == "POST":
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(each.takes)}}}
    else:
        said["parameters"] += [
            {
                "name": name,
                "in": "query",
                "required": wanted.needed,
                "description": wanted.about,
                "schema": _type(wanted),
            }
            for name, wanted in each.takes.items()
        ]
    return said


def _body(takes: Mapping[str, Takes]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {**_type(wanted), **({"description": wanted.about} if wanted.about else {})}
            for name, wanted in takes.items()
        },
        "required": [name for name, wanted in takes.items() if wanted.needed],
    }


def _type(wanted: Takes) -> dict[str, Any]:
    if wanted.type == "any":
        return {}
    if wanted.type == "integer":
        return {"type": "integer", "minimum": wanted.least, "maximum": LARGEST}
    return {"type": wanted.type, **({"enum": list(wanted.choices)} if wanted.choices else {})}
