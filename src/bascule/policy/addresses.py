"""IP addresses as rules see them: an IPv4 address inside an IPv6 one is that IPv4 address. PURE."""

import ipaddress
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2


def address_of(text: str) -> Address | None:
    """The address that *text* writes; None for anything else, such as the name of a Unix socket."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def network_of(text: str) -> Network:
    """The network that *text* writes: `10.0.0.0/8`, or one address. Raises ValueError, which says what to write."""
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError:
        raise ValueError(_what_is_wrong(text)) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # A socket that takes both sorts reports IPv4 clients so; addresses are compared as IPv4.
        inside = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((inside, network.prefixlen - 96))
    return network


def _what_is_wrong(text: str) -> str:
    try:
        meant = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return f"{text!r} is not a network such as 10.0.0.0/8, or an address"
    # Whoever wrote 10.1.2.3/8 meant either one address or sixteen million; only they know which.
    return f"{text!r} is both an address and a network: write {meant} for all of it, or {text.partition('/')[0]}"
