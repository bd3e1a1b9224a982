"""From nothing to a configuration: what `bascule up` makes in a home that has none. Nothing there is ever replaced."""

import base64
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.store import folder
from bascule.wire.seal import KEY_BYTES

SEAL_KEY: Final = "seal.key"
# Who may call: the person at this machine, and the clients that `bascule connect` knows, each with a key of its own.
CALLERS: Final = ("me", "claude-desktop", "claude-code", "cursor", "vscode", "codex", "zed", "windsurf")

_TEXT: Final = Template("""\
# Made by `bascule up`. It is yours: edit it, and what you change holds at once (docs/configuration.md).
# More servers: `bascule import` takes over those that your clients have; `bascule pack list` shows what comes along.
servers:
  office:
    pack: office # documents, tables, mail, calendar, reports
    sandbox: auto
    settings:
      root: $documents # it sees this folder, and no other

# Who calls. Each has a key of its own (`bascule connect CLIENT --write` makes it), so that the record says who it was.
callers:
$callers

# With what the state is sealed that clients keep for us.
seal:
  keys: [$seal]
$listen""")


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are, or will be."""

    config: Path  # the configuration file
    state: Path  # keys and records
    documents: Path  # the folder that the office works in
    port: int
    default_port: int
    default_state: Path


class Made(msgspec.Struct, frozen=True):
    path: Path
    what: str


def begin(home: Home, samples: Sequence[Path]) -> Iterator[Made]:
    """Make what is not there yet, and tell each thing when it is made. Raises ConfigInvalid.

    The configuration comes last: while it is not there, the next start goes on from here.
    """
    if not home.state.exists():
        folder.prepare(home.state)
        yield Made(home.state, "keys and records, for nobody but you")
    seal = home.state / SEAL_KEY
    with folder.locked(home.state):
        if not seal.exists():
            folder.create(seal, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            yield Made(seal, "the key that seals what clients keep")
    if not home.documents.exists():
        _fill(home.documents, samples)
        yield Made(home.documents, f"the folder of the office, with {len(samples)} samples")
    if not home.config.exists():
        _write(home.config, text_of(home))
        yield Made(home.config, "the configuration; it is yours to edit")


def text_of(home: Home) -> str:
    """The first configuration of *home*."""
    listen = [] if home.port == home.default_port else [f"http: {{port: {home.port}}}"]
    listen += [] if home.state == home.default_state else [f"state_dir: {_scalar(str(home.state))}"]
    return _TEXT.substitute(
        documents=_scalar(str(home.documents)),
        callers="\n".join(f'  {name}: {{scopes: ["*"]}}' for name in CALLERS),
        seal=_scalar(f"${{file:{home.state / SEAL_KEY}}}"),
        listen="".join(f"\n{line}\n" for line in listen),
    )


def _fill(documents: Path, samples: Sequence[Path]) -> None:
    try:
        documents.mkdir(mode=folder.PRIVATE_FOLDER, parents=True)
        for sample in samples:
            (documents / sample.name).write_bytes(sample.read_bytes())
    except OSError as error:
        raise folder.unusable(documents, error) from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=folder.PRIVATE_FOLDER, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder.PRIVATE_FILE), "w") as file:
            file.write(text)
    except OSError as error:
        raise ConfigInvalid(f"cannot be written: {error.strerror}", place=str(path)) from error


def _scalar(text: str) -> str:
    """*text* as YAML, wherever it stands: JSON is YAML."""
    return json.dumps(text, ensure_ascii=False)
