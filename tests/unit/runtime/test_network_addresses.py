"""The address pool: pure arithmetic."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.runtime.network.addresses import AddressPool, pod_mac
from minikubelet.runtime.network.errors import AddressesExhausted, NetworkConflict


@pytest.mark.parametrize(
    ("cidr", "gateway", "first", "capacity"),
    [
        ("10.88.0.0/16", "10.88.0.1", "10.88.0.2", 65533),
        ("10.88.0.0/29", "10.88.0.1", "10.88.0.2", 5),
        ("10.88.0.252/30", "10.88.0.253", "10.88.0.254", 1),
        ("fd00:88::/64", "fd00:88::1", "fd00:88::2", 2**64 - 2),
        ("fd00:88::/126", "fd00:88::1", "fd00:88::2", 2),
    ],
)
def test_layout_of_a_range(cidr: str, gateway: str, first: str, capacity: int) -> None:
    pool = AddressPool(cidr)
    assert (str(pool.gateway), pool.capacity) == (gateway, capacity)
    assert str(pool.allocate()) == first


@pytest.mark.parametrize(
    "cidr", ["10.88.0.0/31", "10.88.0.0/32", "fd00::/127", "10.88.0.1/24", "hello", "", "10.0.0.0/33"]
)
def test_what_is_no_range_is_refused_in_one_line(cidr: str) -> None:
    with pytest.raises(NetworkConflict, match=r"^cannot use .* as the pod CIDR: [^\n]+$"):
        AddressPool(cidr)


def test_a_released_address_is_the_last_to_come_again() -> None:
    pool = AddressPool("10.88.0.0/29")
    one, two = pool.allocate(), pool.allocate()
    pool.release(one)
    given_later = [pool.allocate() for _ in range(pool.free)]
    assert given_later[-1] == one
    assert two not in given_later


def test_the_next_daemon_goes_on_behind_the_last_address() -> None:
    pool = AddressPool("10.88.0.0/24")
    pool.resume_after(ipaddress.ip_address("10.88.0.40"))
    assert str(pool.allocate()) == "10.88.0.41"
    pool.resume_after(ipaddress.ip_address("10.99.0.1"))
    pool.resume_after(ipaddress.ip_address("fd00::9"))
    assert str(pool.allocate()) == "10.88.0.42"


def test_exhaustion_names_range_and_size() -> None:
    pool = AddressPool("10.88.0.0/30")
    pool.allocate()
    with pytest.raises(AddressesExhausted, match=r"all 1 addresses of 10\.88\.0\.0/30 are in use"):
        pool.allocate()


@pytest.mark.parametrize("ip", ["10.88.0.0", "10.88.0.1", "10.88.0.255", "10.89.0.2", "fd00::2"])
def test_what_is_not_for_pods_cannot_be_reserved(ip: str) -> None:
    assert not AddressPool("10.88.0.0/24").reserve(ipaddress.ip_address(ip))


def test_an_address_is_reserved_once() -> None:
    pool = AddressPool("10.88.0.0/24")
    assert pool.reserve(ipaddress.ip_address("10.88.0.2"))
    assert not pool.reserve(ipaddress.ip_address("10.88.0.2"))
    assert str(pool.allocate()) == "10.88.0.3"


@given(st.lists(st.one_of(st.none(), st.integers(0, 40)), max_size=200), st.sampled_from(["10.9.0.0/28", "fd00::/124"]))
def test_no_address_is_held_twice_and_none_is_lost(steps: list[int | None], cidr: str) -> None:
    """None allocates; a number releases the held address at that place."""
    pool = AddressPool(cidr)
    held: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    for step in steps:
        if step is not None and held:
            pool.release(held.pop(step % len(held)))
        elif pool.free:
            held.append(pool.allocate())
        assert len(set(held)) == len(held)
        assert pool.gateway not in held
        assert pool.free + len(held) == pool.capacity
        assert all(address in pool.network for address in held)


def test_a_hardware_address_is_local_unicast_and_follows_the_address() -> None:
    assert pod_mac(ipaddress.ip_address("10.88.0.2")) == "0a:58:0a:58:00:02"
    assert pod_mac(ipaddress.ip_address("fd00::1:2")) == "0a:58:00:01:00:02"
