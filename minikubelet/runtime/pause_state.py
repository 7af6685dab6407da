"""What is known of one pod's sandboxes and containers, and how it reads as the values that decisions are made from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from minikubelet.lifecycle.observed import ContainerID, Exit, ObservedContainer, ObservedSandbox, RunState, User
from minikubelet.runtime.channel import Channel
from minikubelet.runtime.journal_records import ContainerRecord, SandboxRecord, fitting
from minikubelet.runtime.port import RuntimeView
from minikubelet.runtime.processes import is_alive, is_stopped
from minikubelet.sandbox.journal import read_journal
from minikubelet.sandbox.protocol import Message

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PauseState:
    """What is known of one pod's sandboxes and containers."""

    sandboxes: dict[str, Message] = field(default_factory=dict)
    containers: dict[str, Message] = field(default_factory=dict)
    ips: tuple[str, ...] = ()
    channel: Channel | None = None
    netns: int = -1
    ready: asyncio.Future[None] | None = None
    responsive: bool = True
    unreached: bool = False  # the pause lives, but its queue of clients is full: there is no connection
    foreign: str = ""  # why this daemon cannot talk to the pause
    trouble: str = ""  # what was told last
    version: int = 1
    view: RuntimeView | None = None

    @property
    def newest_sandbox(self) -> Message | None:
        """Return the record of the pod's pause, or of its last one."""
        return next(reversed(self.sandboxes.values()), None)

    def is_connected(self) -> bool:
        """Tell whether the pause has said who it is, and is one that we can talk to."""
        return self.channel is not None and not self.foreign and self.ready is not None and self.ready.done()

    def is_stopped(self) -> bool:
        """Tell whether the pod's pause is stopped, by a signal or a debugger."""
        newest = self.newest_sandbox
        return newest is not None and is_stopped(newest)

    def take_up(self, sandbox: Message, containers: Iterable[Message]) -> None:
        """Take up what a pause says of itself and of all that it knows."""
        self.sandboxes[sandbox["id"]] = sandbox
        # What the pause does not know any more has been removed; instances of earlier pauses it never knew.
        earlier = {key: one for key, one in self.containers.items() if one.get("sandbox_id") != sandbox["id"]}
        self.containers = earlier | {record["id"]: record for record in containers}
        # A sandbox that fails again and again leaves one record each time.
        needed = {sandbox["id"], *(one.get("sandbox_id") for one in self.containers.values())}
        self.sandboxes = {key: one for key, one in self.sandboxes.items() if key in needed or is_alive(one)}


def read_state(path: str) -> PauseState:
    """Return what a journal tells, nothing if it cannot be read."""
    try:
        sandboxes, containers = read_journal(path)
    except FileNotFoundError:
        return PauseState()
    except OSError as error:
        log.error("cannot read journal", path=path, error=str(error))
        return PauseState()
    return PauseState(
        sandboxes=fitting(sandboxes, SandboxRecord, path),
        containers=fitting(containers, ContainerRecord, path),
    )


def view_of(pod: PauseState) -> RuntimeView:
    """Return what is known of a pod as decisions see it, newest first."""
    newest = list(pod.sandboxes.values())[::-1]
    sandboxes = tuple(
        ObservedSandbox(
            id=record["id"],
            attempt=record["attempt"],
            created_at=record["created_at"],
            ready=index == 0 and (pod.channel is not None or pod.unreached),
            host_network=record["host_network"],
            ips=pod.ips if index == 0 else (),
        )
        for index, record in enumerate(newest)
    )
    containers: dict[str, list[ObservedContainer]] = {}
    for record in list(pod.containers.values())[::-1]:
        containers.setdefault(record["name"], []).append(observed_container(record))
    return RuntimeView(
        sandboxes=sandboxes,
        containers={name: tuple(sorted(found, key=_age)) for name, found in containers.items()},
        responsive=pod.responsive,
    )


def _age(instance: ObservedContainer) -> int:
    return -instance.restart_count


def observed_container(record: Message) -> ObservedContainer:
    """Return a container's record as the value that decisions are made from."""
    ended, user = record.get("exit"), record.get("user")
    return ObservedContainer(
        id=ContainerID(record["id"]),
        name=record["name"],
        restart_count=record["restart_count"],
        state=RunState(record["state"]),
        created_at=record["created_at"],
        created_mono=record["created_mono"],
        started_at=record.get("started_at"),
        started_mono=record.get("started_mono"),
        exit=Exit(**ended) if ended else None,
        spec_hash=record.get("spec_hash", ""),
        pid=record.get("pid", 0),
        sandbox_id=record.get("sandbox_id", ""),
        user=User(uid=user["uid"], gid=user["gid"], groups=tuple(user["groups"])) if user else None,
    )


def to_this_boot(record: Message, boot_now: float, wall_now: float) -> None:
    """Give the monotonic times of a record from an earlier boot a meaning in this one: before now, by their ages.

    They may become negative. A wall clock that was set meanwhile makes ages wrong, never a time in the future.
    """

    def convert(holder: Message, mono: str, wall: str) -> None:
        if holder.get(mono) is not None:
            holder[mono] = boot_now - max(0.0, wall_now - float(holder.get(wall) or wall_now))

    convert(record, "created_mono", "created_at")
    convert(record, "started_mono", "started_at")
    if record.get("exit"):
        convert(record["exit"], "finished_mono", "finished_at")
