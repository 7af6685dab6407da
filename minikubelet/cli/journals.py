"""What a pod's journal says of its processes: read by root, with and without a daemon. See `sandbox.journal`."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def read(state_dir: str, uid: str) -> tuple[Json, dict[str, Json]]:
    """Return the newest sandbox's record, and those of all container instances by id, the oldest first.

    Raises OSError: there is no journal, or it is not for this user.
    """
    sandbox: Json = {}
    containers: dict[str, Json] = {}
    with open(os.path.join(state_dir, "pods", uid, "journal.jsonl"), encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
                what, identity, state = record["do"], record["id"], record.get("state", {})
                if what == "sandbox":
                    sandbox = state
                elif what == "container":
                    containers[identity] = {**containers.get(identity, {}), **state}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # torn by a crash, or not ours
    return sandbox, containers


def instances(state_dir: str, uid: str) -> list[Json]:
    """Return the container instances as the daemon's `facts` have them; none where the journal cannot be read."""
    try:
        _, containers = read(state_dir, uid)
    except OSError:
        return []
    return [_instance(identity, one) for identity, one in containers.items()]


def _instance(identity: str, one: Json) -> Json:
    found: Json = {
        "id": identity,
        "container": one.get("name", ""),
        "restartCount": one.get("restart_count", 0),
        "state": one.get("state", ""),
    }
    if one.get("started_at"):
        found["startedAt"] = _stamp(one["started_at"])
    ended = one.get("exit")
    if ended:
        found["exit"] = {
            "exitCode": ended.get("exit_code", 0),
            "signal": ended.get("signal", 0),
            "reason": ended.get("reason", ""),
            "message": ended.get("message", ""),
            "finishedAt": _stamp(ended.get("finished_at", 0)),
        }
        if ended.get("memory_peak"):
            found["exit"]["memoryPeakBytes"] = ended["memory_peak"]
    return found


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
