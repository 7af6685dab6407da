"""The very process of a record: whether it still exists, and how it is signalled, killed and waited for.

A record is what a pause noted of itself or of a container: boot, number and start time name one process for ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

import structlog

from minikubelet.linux.kernel import boot_id, start_ticks
from minikubelet.sandbox.family import kill_tree
from minikubelet.sandbox.protocol import Message

log = structlog.get_logger(__name__)

_DEATH_LIMIT_S: Final = 10.0


def is_alive(record: Message) -> bool:
    """Tell whether the very process of a record still exists: same boot, same start time."""
    if record.get("boot_id", boot_id()) != boot_id() or not record.get("pid"):
        return False
    try:
        ticks = start_ticks(str(record["pid"]))
    except OSError:
        return False
    return ticks != 0 and ticks == record.get("start_ticks")


def is_stopped(record: Message) -> bool:
    """Tell whether a record's process is stopped, by a signal or a debugger."""
    try:
        descriptor = os.open(f"/proc/{record['pid']}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(descriptor, 256).rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False
    finally:
        os.close(descriptor)


def signal_alive(record: Message, number: int) -> None:
    """Send a signal to the very process of a record; nobody who got its number since then is hit."""
    try:
        descriptor = os.pidfd_open(record["pid"])
    except (OSError, TypeError, ValueError):
        return
    try:
        if is_alive(record):
            signal.pidfd_send_signal(descriptor, number)
    except OSError as error:
        log.warning("cannot signal process", pid=record["pid"], error=str(error))
    finally:
        os.close(descriptor)


def kill_alive(record: Message) -> None:
    """Kill the very process of a record with its descendants."""
    if is_alive(record):
        kill_tree(record["pid"])


async def wait_until_dead(record: Message) -> None:
    """Wait until the very process of a record, which has been killed, is dead, but not for ever: it may hang in a disk.

    The first process of a PID namespace is dead when all others in it are.
    """
    try:
        descriptor = os.pidfd_open(record["pid"])
    except (OSError, TypeError, ValueError, KeyError):
        return
    loop = asyncio.get_running_loop()
    dead = asyncio.Event()
    loop.add_reader(descriptor, dead.set)
    try:
        if is_alive(record):
            async with asyncio.timeout(_DEATH_LIMIT_S):
                await dead.wait()
    except TimeoutError:
        log.warning("killed process does not die", pid=record["pid"])
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
