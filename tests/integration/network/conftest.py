"""A small world for network tests: a host, a client outside and pods, each a network namespace of its own.

The test itself runs inside the host's namespace, so nothing that it does reaches the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from minikubelet.runtime.network.network import Network
from minikubelet.runtime.network.rtnetlink import (
    Netlink,
    add_address,
    add_default_route,
    make_veth,
    set_link,
)

T = TypeVar("T")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
MNT_DETACH = 2
MS_BIND = 4096


def here() -> int:
    """Return a descriptor of this thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(netns: int) -> None:
    """Move this thread."""
    if LIBC.setns(netns, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def inside(netns: int, function: Callable[..., T], *args: Any) -> T:
    """Call a function in another network namespace, from a thread that ends with it."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            enter(netns)
            result.append(function(*args))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def new_netns() -> int:
    """Make a network namespace and return its descriptor; it goes when the last descriptor and link do."""
    made: list[int] = []

    def run() -> None:
        if LIBC.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        with Netlink() as netlink:
            netlink.apply(set_link("lo", up=True))
        made.append(here())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return made[0]


def find_set_up_link(name: str, address: str, gateway: str | None, ipv6: str | None) -> None:
    """Give a link its addresses, and the namespace its way out."""
    with Netlink() as netlink:
        link = netlink.link(name)
        assert link is not None
        netlink.apply(set_link(name, up=True), add_address(link.index, ipaddress.ip_interface(address)))
        if ipv6:
            netlink.apply(add_address(link.index, ipaddress.ip_interface(ipv6)))
        if gateway:
            netlink.apply(add_default_route(link.index, ipaddress.ip_address(gateway)))


class Lab:
    """The world. `outside` is the client's namespace, 192.0.2.1; the host is 192.0.2.2."""

    host_ip = "192.0.2.2"
    outside_ip = "192.0.2.1"
    bridge = "mktest0"
    cidr = "10.88.0.0/24"

    def __init__(self, state_dir: str, netns_directory: str) -> None:
        self.state_dir = state_dir
        self.netns_directory = netns_directory
        self.networks: list[Network] = []
        self._open: list[int] = []
        self.outside = self.netns()
        with Netlink() as netlink:
            netlink.apply(
                set_link("lo", up=True),
                make_veth("up0", master=0, mtu=1400, peer="up0", peer_mac="02:00:00:00:00:01", peer_netns=self.outside),
            )
        find_set_up_link("up0", "192.0.2.2/24", "192.0.2.1", "2001:db8::2/64")
        inside(self.outside, find_set_up_link, "up0", "192.0.2.1/24", None, "2001:db8::1/64")
        deadline = time.monotonic() + 20
        while "linkdown" in self.run("ip", "route"):  # the kernel notices a moment later that both ends are up
            assert time.monotonic() < deadline, "the uplink stays down"

    def netns(self) -> int:
        """Make a namespace that lives as long as the test."""
        netns = new_netns()
        self._open.append(netns)
        return netns

    def close_netns(self, netns: int) -> None:
        """Let a namespace go, as when its pod's last process ended."""
        self._open.remove(netns)
        os.close(netns)

    def network(self, **options: Any) -> Network:
        """Make a network as the daemon does."""
        settings: dict[str, Any] = {
            "state_dir": self.state_dir,
            "bridge": self.bridge,
            "pod_cidrs": (self.cidr,),
            "netns_directory": self.netns_directory,
            "cni_conf_dir": "/nonexistent",
        }
        made = Network(**{**settings, **options})
        self.networks.append(made)
        return made

    def inside(self, netns: int, function: Callable[..., T], *args: Any) -> T:
        """Call a function in a namespace."""
        return inside(netns, function, *args)

    def run(self, *command: str, netns: int | None = None) -> str:
        """Run a command and return what it prints."""
        call = lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: E731
        return call() if netns is None else inside(netns, call)

    def links(self, netns: int | None = None) -> list[str]:
        """Return the names of all links."""

        def names() -> list[str]:
            with Netlink() as netlink:
                return sorted(link.name for link in netlink.links())

        return names() if netns is None else inside(netns, names)

    def rules(self) -> str:
        """Return the nftables rules of the host."""
        return self.run("nft", "list", "ruleset")

    async def serve(self, netns: int | None, port: int, host: str = "", *, family: int = socket.AF_INET) -> Any:
        """Serve TCP in a namespace: each connection is told the address that the server sees, then echoed to."""
        made = self.socket(netns, family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write(f"{writer.get_extra_info('peername')[0]}\n".encode())
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
                writer.close()

        return await asyncio.start_server(answer, sock=made)

    def serve_udp(self, netns: int, port: int) -> None:
        """Answer each datagram with the sender's address and what it said."""
        made = self.socket(netns, socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", port))
        made.setblocking(False)

        def answer() -> None:
            data, peer = made.recvfrom(65536)
            made.sendto(f"{peer[0]} ".encode() + data, peer)

        asyncio.get_running_loop().add_reader(made, answer)

    def socket(self, netns: int | None, family: int, kind: int) -> socket.socket:
        """Make a socket in a namespace."""
        return socket.socket(family, kind) if netns is None else inside(netns, socket.socket, family, kind)

    async def ask(self, netns: int | None, host: str, port: int, say: bytes = b"hello", wait: float = 20) -> str:
        """Connect from a namespace, check the echo and return the client address that the server saw."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = self.socket(netns, family, socket.SOCK_STREAM)
        made.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(made, (host, port)), wait)
            reader, writer = await asyncio.open_connection(sock=made)
        except BaseException:
            made.close()
            raise
        seen = await asyncio.wait_for(reader.readline(), 20)
        writer.write(say)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 20) == say
        writer.close()
        return seen.decode().strip()

    async def ask_udp(self, netns: int | None, host: str, port: int, made: socket.socket | None = None) -> str:
        """Send a datagram from a namespace and return the client address that the server saw."""
        own = made or self.socket(netns, socket.AF_INET, socket.SOCK_DGRAM)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            own.connect((host, port))
            await loop.sock_sendall(own, b"hello")
            answer = await asyncio.wait_for(loop.sock_recv(own, 1024), 20)
        finally:
            if made is None:
                own.close()
        address, said = answer.decode().split()
        assert said == "hello"
        return address

    async def until(self, true: Callable[[], Any], seconds: float = 20) -> None:
        """Wait until something is so."""
        end = asyncio.get_running_loop().time() + seconds
        while not true():
            assert asyncio.get_running_loop().time() < end, "it did not come true in time"
            await asyncio.sleep(0.01)

    def pin(self, name: str, netns: int) -> None:
        """Pin a namespace as a pause does."""
        os.makedirs(self.netns_directory, exist_ok=True)
        self.unpin(name)
        path = os.path.join(self.netns_directory, name)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY))
        source = f"/proc/{os.getpid()}/fd/{netns}".encode()
        if LIBC.mount(source, path.encode(), None, MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), "mount")

    def unpin(self, name: str) -> None:
        """Take a pinned name away, if it is there."""
        path = os.path.join(self.netns_directory, name)
        LIBC.umount2(path.encode(), MNT_DETACH)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def close(self) -> None:
        """Let every namespace go."""
        if os.path.isdir(self.netns_directory):
            for name in os.listdir(self.netns_directory):
                LIBC.umount2(os.path.join(self.netns_directory, name).encode(), MNT_DETACH)
        for netns in self._open:
            os.close(netns)


@pytest.fixture
def anyio_backend() -> str:
    """The daemon is asyncio only."""
    return "asyncio"


@pytest.fixture
def lab(tmp_path: Any) -> Iterator[Lab]:
    """Build the world around the test and move the test into its host."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    home = here()
    if LIBC.unshare(CLONE_NEWNET) != 0:
        pytest.skip("cannot make network namespaces")
    made: Lab | None = None
    try:
        made = Lab(str(tmp_path / "state"), str(tmp_path / "netns"))
        yield made
    finally:
        if made is not None:
            made.close()
        enter(home)
        os.close(home)
