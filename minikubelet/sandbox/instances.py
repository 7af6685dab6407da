"""What a pause keeps of a container's instance beside its record: while it starts, and while it runs."""

from __future__ import annotations

import time

from minikubelet.linux.kernel import boot_time
from minikubelet.linux.lean import Final
from minikubelet.sandbox.clients import Connection
from minikubelet.sandbox.journal import Record
from minikubelet.sandbox.logs import LogFile
from minikubelet.sandbox.output import Stream
from minikubelet.sandbox.protocol import Message, from_line
from minikubelet.sandbox.spec import ContainerSpec

# How long a start may take until the program runs.
START_LIMIT_S: Final = 60.0


class Start:
    """What the pause keeps of a container until its program runs."""

    __slots__ = (
        "connection",
        "console",
        "deadline",
        "number",
        "reports",
        "status",
    )

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.status = -1  # where the process reports until it executes its program
        self.console = -1  # where it sends its terminal
        self.reports = b""
        self.deadline = boot_time() + START_LIMIT_S

    def said(self, key: str) -> Message | None:
        """Return the first report with a key, None without one.

        `pid` says how the host numbers the process; `failed` why the program could not be executed, and is not said
        if it was, or if the process was killed before.
        """
        for line in self.reports.splitlines():
            report = from_line(line)
            if key in report:
                return report
        return None


class Running:
    """What the pause keeps of a container beside its record."""

    __slots__ = (
        "log",
        "oom_before",
        "pid",
        "spec",
        "start",
        "stdin",
        "streams",
    )

    def __init__(self, spec: ContainerSpec) -> None:
        self.spec = spec
        self.streams: list[Stream] = []
        self.log: LogFile | None = None
        self.start: Start | None = None  # until its program runs
        self.pid = 0
        self.oom_before = 0
        # What a container with `stdin: true` reads is written here; with a terminal, this is it.
        self.stdin = -1


def exit_of(failure: Message) -> Record:
    """Return the exit record of a program that never ran, as the usual container runtime words it."""
    now = time.time()
    cause = failure["message"] if failure["failed"] == "exec" else f"{failure['failed']}: {failure['message']}"
    return {
        "exit_code": 128,
        "signal": 0,
        "reason": "StartError",
        "message": f"OCI runtime create failed: unable to start container process: {cause}: unknown",
        "finished_at": now,
        "finished_mono": boot_time(),
    }
