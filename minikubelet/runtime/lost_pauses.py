"""What a pause held that is gone: dead, or killed now, and noted in its journal, which nobody else writes any more."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from minikubelet.linux.kernel import boot_id, boot_time
from minikubelet.runtime.pause_state import PauseState, read_state, to_this_boot
from minikubelet.runtime.processes import kill_alive
from minikubelet.sandbox.journal import Journal
from minikubelet.sandbox.protocol import Message

log = structlog.get_logger(__name__)


def take_from_journal(pod: PauseState, journal: str) -> None:
    """Take up what a pause noted and did not live to tell: an instance that it had begun, or an exit.

    Otherwise a restart count, and with it a log, would be used twice; the next daemon would also know better.
    """
    for key, noted in read_state(journal).containers.items():
        known = pod.containers.get(key)
        if known is None or (noted["state"] == "exited" and known["state"] != "exited"):
            pod.containers[key] = noted


def end_containers(pod: PauseState, records: Iterable[Message], journal: str) -> None:
    """End containers whose pause is gone.

    Args:
        pod: What is known of their pod.
        records: Those of its containers.
        journal: The path of its journal.
    """
    now, boot = boot_time(), boot_id()
    rebooted = {one["id"] for one in pod.sandboxes.values() if one.get("boot_id", boot) != boot}
    for record in pod.containers.values():
        if record.get("sandbox_id") in rebooted:
            to_this_boot(record, now, time.time())
    lost = [one for one in records if one["state"] != "exited"]
    if not lost:
        return
    for record in lost:
        same_boot = record.get("sandbox_id") not in rebooted
        if same_boot:
            kill_alive(record)
        record["state"] = "exited"
        record["exit"] = _exit(same_boot=same_boot, now=now)
    _note(lost, journal)


def _exit(*, same_boot: bool, now: float) -> Message:
    """Return an exit: the pause's death is its containers' by SIGKILL, how they ended in a reboot nobody can tell."""
    return {
        "exit_code": 137 if same_boot else 255,
        "signal": 9 if same_boot else 0,
        "reason": "Error" if same_boot else "Unknown",
        "message": "",
        "finished_at": time.time(),
        "finished_mono": now,
    }


def _note(ended: Iterable[Message], path: str) -> None:
    try:
        journal = Journal(path)
    except OSError as error:
        log.warning("exits not noted in journal", path=path, error=str(error))
        return
    for record in ended:
        change = {"state": record["state"], "exit": record["exit"]}
        journal.append({"do": "container", "id": record["id"], "state": change})
    journal.close()
