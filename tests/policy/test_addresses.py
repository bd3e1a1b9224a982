"""IP addresses and networks as an operator writes them, and as sockets report them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.policy.addresses import address_of, network_of


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_that_address(address: ipaddress.IPv4Address) -> None:
    assert address_of(f"::ffff:{address}") == address == address_of(str(address))


@given(st.ip_addresses())
def test_an_address_is_a_network_of_its_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    seen = address_of(str(address))
    assert seen is not None
    assert seen in network_of(str(address))


@given(st.text())
def test_whatever_is_written_is_an_address_or_nothing(text: str) -> None:
    address_of(text)


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0", "010.0.0.1", "10.0.0.1:80", "[::1]", "1", "/run/x.sock"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert address_of(text) is None


def test_a_network_written_as_ipv4_inside_ipv6_holds_the_same_clients() -> None:
    assert network_of("::ffff:10.0.0.0/104") == network_of("10.0.0.0/8")
    assert network_of("fd00::/8").version == 6


@pytest.mark.parametrize(
    ("text", "advice"),
    [("10.1.2.3/8", "write 10.0.0.0/8 for all of it, or 10.1.2.3"), ("home", "is not a network"), ("", "is not a")],
)
def test_a_network_that_could_mean_two_things_is_refused_with_both(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        network_of(text)
