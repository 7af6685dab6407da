"""What the service manager is told: ready, stopping, and that the main loop is alive. Nothing without systemd.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import MutableMapping


class ServiceManager:
    """Speaks to systemd on behalf of the process it started, and of no child: the variables are taken away."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Args: environment: Usually `os.environ`."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        owner = environment.pop("WATCHDOG_PID", "")
        is_ours = owner in ("", str(os.getpid()))
        self._watchdog_s = int(microseconds) / 1e6 if microseconds.isdecimal() and is_ours else 0.0
        self._feeder: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """Say that the node is up, and begin to feed the watchdog if the unit has one."""
        self.notify("READY=1")
        if self._watchdog_s > 0 and self._feeder is None:
            self._feeder = asyncio.create_task(self._feed(), name="watchdog")

    def stopping(self) -> None:
        """Say that the daemon leaves; ending pods may take longer than the watchdog allows, so it is fed on."""
        self.notify("STOPPING=1")

    def close(self) -> None:
        """Stop feeding the watchdog."""
        if self._feeder is not None:
            self._feeder.cancel()
            self._feeder = None

    def notify(self, state: str) -> None:
        """Send one message; a service manager that does not listen is no error."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(address)
            notify.sendall(state.encode())

    async def _feed(self) -> None:
        """Only the main loop feeds: one that hangs is killed and started anew, and pods do not notice."""
        while True:
            self.notify("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 3)
