"""A pack as a server of a configuration: the command that starts it, its walls, and the contracts that come with it."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule import documents
from bascule.contract.model import Document
from bascule.errors import ConfigInvalid
from bascule.packs import catalog
from bascule.packs.pack import RECORDS, PackOptions

VARIABLE: Final = "BASCULE_PACK"
PLACE: Final = "pack "  # begins the place of a contract that came with a pack
NOT_ITS: Final = ("command", "args", "url", "env", "pass_environment", "names", "runtime", "image")


def stdio_entry(entry: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """An entry `{pack: NAME, settings: {…}, …}` of `servers` as one with a command. Raises ConfigInvalid.

    Besides *settings* it may say what any server with a command may, but for the command itself. Relative folders in
    them are below *base*.
    """
    said = {key: value for key, value in entry.items() if key not in ("pack", "settings")}
    if wrong := next((key for key in NOT_ITS if key in said), None):
        raise ConfigInvalid("does not go with `pack`, which says it itself", field=wrong)
    name = entry["pack"]
    options = catalog.options_of(name, entry.get("settings") or {}).placed(base)
    return {
        "command": sys.executable,
        "args": ["-P", "-m", "bascule.packs", name],  # -P: no module of the folder it is started in
        "env": {VARIABLE: json.dumps(msgspec.to_builtins(options))},
        "names": "own",
        "trust": "auto",  # its definitions are the installed ones; its contracts do not come from the process
        "deduplicates": options.deduplicates,
        **said,
        "sandbox": _walls(options, said.get("sandbox")),
    }


def contracts(server: str, name: str) -> Iterator[tuple[str, Document]]:
    """The contracts of the pack *name* as those of *server*, with their places. Raises ConfigInvalid.

    They are read from the installation, not heard from the process: it reads what strangers wrote.
    """
    for place, document in documents.documents(catalog.contracts_of(name)):
        namespace, _, rest = document.id.partition("/")
        own = {document.kind: f"{server}/{rest}"} if namespace == name or document.kind != "tool" else {}
        yield f"{PLACE}{name}: {place.rpartition('/')[2]}", msgspec.structs.replace(document, **own)


def _walls(options: PackOptions, said: Any) -> Any:
    """What the pack needs, changed by what the configuration says of it. Its own records have a folder by then."""
    needs = {key: value for key, value in msgspec.to_builtins(options.sandbox()).items() if value is not None}
    if (folder := getattr(options, RECORDS, None)) is not None:
        needs["make"] = [folder]
    if isinstance(said, str):
        return {**needs, "mode": said}
    return {**needs, **(said or {})}
