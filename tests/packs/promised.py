"""What the contracts of a pack promise of results, for tests of its tools."""

from typing import Any

import msgspec

from bascule import documents
from bascule.contract.validation.schema import compile_schema
from bascule.packs import catalog


def check(pack: str, tool: str, result: Any) -> None:
    """Fails, showing it, if *result* is not what the contract of the tool with the id *tool* promises."""
    found = {document.id: document for _, document in documents.documents(catalog.contracts_of(pack))}
    schema = found[tool].output_schema
    assert schema is not msgspec.UNSET
    assert not compile_schema(schema).problems(result, 0), result
