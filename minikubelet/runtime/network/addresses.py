"""Which address of the pod range is next: pure arithmetic, no file and no kernel.

An address that was given back is the last to be given again, because peers remember it for a while (connections, ARP
and DNS caches, log lines).
"""

from __future__ import annotations

import ipaddress

from minikubelet.runtime.network.errors import AddressesExhausted, NetworkConflict
from minikubelet.runtime.network.rtnetlink import IPAddress, IPInterface, IPNetwork


class AddressPool:
    """The addresses of one pod range. The first one is the gateway's, on the bridge.

    Raises:
        NetworkConflict: The text is no network, or has no room for a pod.
    """

    def __init__(self, cidr: str) -> None:
        self.network = parse_cidr(cidr)
        base = int(self.network.network_address)
        self.gateway: IPAddress = self.network.network_address + 1
        self._first = base + 2
        # IPv4 keeps the last address for broadcast.
        last = base + self.network.num_addresses - 1
        self._last = last - 1 if self.network.version == 4 else last
        self._taken: set[int] = set()
        self._latest = self._last

    @property
    def gateway_interface(self) -> IPInterface:
        """The bridge's own address with the length of the range."""
        return ipaddress.ip_interface(f"{self.gateway}/{self.network.prefixlen}")

    @property
    def capacity(self) -> int:
        """How many pods the range has room for."""
        return self._last - self._first + 1

    @property
    def free(self) -> int:
        """How many addresses are left."""
        return self.capacity - len(self._taken)

    @property
    def latest(self) -> IPAddress:
        """The address given last; the search goes on behind it."""
        return self._address(self._latest)

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.network.version and self._first <= int(address) <= self._last

    def interface(self, address: IPAddress) -> IPInterface:
        """Return the address with the length of the range."""
        return ipaddress.ip_interface(f"{address}/{self.network.prefixlen}")

    def resume_after(self, address: IPAddress) -> None:
        """Go on behind an address that an earlier daemon gave last; another range's is ignored."""
        if address in self:
            self._latest = int(address)

    def reserve(self, address: IPAddress) -> bool:
        """Mark an address as taken. False if it already is, or is not of this range."""
        if address not in self or int(address) in self._taken:
            return False
        self._taken.add(int(address))
        return True

    def allocate(self) -> IPAddress:
        """Take the next free address.

        Raises:
            AddressesExhausted: There is none.
        """
        if self.free <= 0:
            raise AddressesExhausted(
                f"cannot give the pod an address: all {self.capacity} addresses of {self.network} are in use"
            )
        number = self._latest
        while True:
            number = number + 1 if number < self._last else self._first
            if number not in self._taken:
                break
        self._taken.add(number)
        self._latest = number
        return self._address(number)

    def release(self, address: IPAddress) -> None:
        """Give an address back; one that was not taken is ignored."""
        if address in self:
            self._taken.discard(int(address))

    def _address(self, number: int) -> IPAddress:
        return ipaddress.IPv4Address(number) if self.network.version == 4 else ipaddress.IPv6Address(number)


def parse_cidr(cidr: str) -> IPNetwork:
    """Read a pod range.

    Raises:
        NetworkConflict: It is no network, has host bits set, or is too small for one pod beside the gateway.
    """
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise NetworkConflict(f"cannot use {cidr!r} as the pod CIDR: {error}") from None
    if network.max_prefixlen - network.prefixlen < 2:
        raise NetworkConflict(f"cannot use {cidr} as the pod CIDR: it has no room for a pod")
    return network


def pod_mac(address: IPAddress) -> str:
    """Return a hardware address derived from an IP address, so that neighbours' caches stay right when it is reused."""
    tail = address.packed[-4:]
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *tail))
