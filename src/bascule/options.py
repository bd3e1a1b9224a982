"""Base of every configuration struct, and the checked number types they share."""

from typing import Annotated, Final, TypeAlias

import msgspec

# Fields whose values never show in a repr.
_SECRET: Final = frozenset(
    {"env", "headers", "bearer", "args", "url", "keys", "client_secret", "password", "token", "api_key", "webhook_url"}
)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only; a misspelt key is an error and never ignored."""

    def __repr__(self) -> str:
        shown = (f"{name}={'***' if name in _SECRET else repr(getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"


Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, description="seconds")]
Bytes: TypeAlias = Annotated[int, msgspec.Meta(gt=0, description="bytes")]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]
