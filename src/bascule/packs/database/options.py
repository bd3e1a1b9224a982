"""What can be set of the database pack, and what its process needs of the machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options import Options, Seconds
from bascule.options_sandbox import Port, SandboxOptions
from bascule.packs.pack import PackOptions

_DNS: Final = 53  # an answer that is too long for UDP comes over TCP
SAMPLE: Final = "sample"  # in place of a path

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class WriterOptions(Options, frozen=True):
    """The role that `insert_record` works as; what it may not do, nobody can."""

    user: Name
    password: str = ""

    def __repr__(self) -> str:
        return f"WriterOptions(user={self.user!r}, password='***')"


class PostgresOptions(Options, frozen=True):
    """A database of PostgreSQL, and the role that reads it: not a superuser, and without the right to write."""

    database: Name
    user: Name
    password: str = ""
    host: Name = "127.0.0.1"
    port: Port = 5432
    schema: Name = "public"
    tls: Literal["verify", "require", "off"] = "verify"  # `require` encrypts, but believes any certificate
    ca: str | None = None  # a file of certificates; default: those that this machine trusts
    writer: WriterOptions | None = None

    def __repr__(self) -> str:
        return f"PostgresOptions({self.user}@{self.host}:{self.port}/{self.database})"


class DatabaseOptions(PackOptions, frozen=True):
    sqlite: str | None = None  # the path of a database, or `sample`
    folder: str | None = None  # that the sample is made in, and that has to be there
    postgres: PostgresOptions | None = None
    inserts: tuple[str, ...] | None = None  # tables that records may be added to; default: those of the sample, or none
    descriptions: Mapping[str, str] = {}  # what a table means, or a column: `orders`, `orders.amount`
    timeout_s: Seconds = 5.0  # of one query
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    max_cell_chars: Annotated[int, msgspec.Meta(ge=16, le=100_000)] = 10_000
    max_result_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=4_000_000)] = 1_000_000
    memory_bytes: Annotated[int, msgspec.Meta(ge=8 << 20)] = 64 << 20  # that SQLite may take for one query

    @property
    def deduplicates(self) -> bool:
        return True

    @property
    def is_sample(self) -> bool:
        return self.sqlite == SAMPLE

    @property
    def file(self) -> Path:
        """The database of SQLite."""
        assert self.sqlite is not None
        if self.is_sample:
            assert self.folder is not None
            return Path(self.folder).expanduser().absolute() / "sample.sqlite"
        return Path(self.sqlite).expanduser().absolute()

    def sandbox(self) -> SandboxOptions:
        if self.postgres is not None:
            read = () if self.postgres.ca is None else (self.postgres.ca,)
            return SandboxOptions(read=read, network=(_DNS, self.postgres.port))
        # The folder, and not the file alone: SQLite keeps its journal beside it.
        folder = str(self.file.parent)
        if self.is_sample or self.inserts:
            return SandboxOptions(write=(folder,), network="none")
        return SandboxOptions(read=(folder,), network="none")

    def check(self) -> None:
        if (self.sqlite is None) == (self.postgres is None):
            raise ConfigInvalid(
                "name one database: `sqlite: PATH`, `sqlite: sample` or `postgres: {…}`", field="settings"
            )
        if self.is_sample and self.folder is None:
            raise ConfigInvalid("the sample needs `folder`, to make it in", field="settings.folder")
        if self.postgres is not None and self.inserts and self.postgres.writer is None:
            message = "to insert, give `writer: {user, password}`, another role than the one that reads"
            raise ConfigInvalid(message, field="settings.postgres.writer")


OPTIONS = DatabaseOptions
