"""What systemd is told."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from minikubelet.node.systemd import ServiceManager


@pytest.fixture
def manager_socket(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    return listener


def test_ready_feeds_the_watchdog_until_closed(manager_socket: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": manager_socket.getsockname(),
        "WATCHDOG_USEC": "30000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }

    async def scenario() -> list[bytes]:
        manager = ServiceManager(environment)
        manager.ready()
        heard = [await asyncio.to_thread(manager_socket.recv, 100) for _ in range(3)]
        manager.close()
        return heard

    assert asyncio.run(scenario()) == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    assert environment == {"PATH": "/bin"}, "children inherit no way to speak for the daemon"


def test_the_watchdog_of_another_process_is_not_fed(manager_socket: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager_socket.getsockname(), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}

    async def scenario() -> None:
        manager = ServiceManager(environment)
        manager.ready()
        await asyncio.sleep(0.01)
        manager.stopping()

    asyncio.run(scenario())
    assert [manager_socket.recv(100), manager_socket.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_without_systemd_nothing_is_said() -> None:
    async def scenario() -> None:
        ServiceManager({}).ready()

    asyncio.run(scenario())
