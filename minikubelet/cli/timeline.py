"""`minikubelet timeline POD`: logs, events, probe results and restarts in the order of time."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from minikubelet.cli import client, facts, lookup, terminal
from minikubelet.cli.arguments import add_namespace, duration, namespace_of
from minikubelet.cli.findings import seconds
from minikubelet.cli.log_files import Follower, LogLine, container_directory, read_log, restart_counts

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet timeline web --since=10m
  minikubelet timeline web -f
"""

# Events and ends are looked at again this often while following; lines of logs ring the bell.
_LOOK_S: Final = 0.5
_TERMINAL: Final = ("Succeeded", "Failed")


_LATE: Final = 0.999999  # of a second: behind everything in it


class Entry(NamedTuple):
    """One thing that happened. `order` parts what came in the same second: starts, then what they did, then ends."""

    time: float
    order: int
    what: str  # "event", "Warning", "start", "end", "out", "err"
    container: str
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    add_namespace(parser, all_too=True)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the pod has ended")
    parser.add_argument("--since", type=duration, metavar="DURATION", help="only what is younger: 5s, 2m, 3h")
    parser.add_argument("--no-logs", action="store_true", help="leave out what containers printed")


def execute(options: argparse.Namespace) -> int:
    """Print the timeline."""
    pod = lookup.find_pod(options, namespace_of(options), options.pod)
    since = time.time() - options.since if options.since is not None else 0.0
    shown: set[Entry] = set()
    known = facts.gather(options, pod)
    entries = [*of_events(known.events), *of_states(known)]
    followers: dict[str, Follower] = {}
    if not options.no_logs:
        for name in lookup.container_names(pod):
            directory = container_directory(options.log_dir, pod, name)
            for count in restart_counts(directory)[:-1]:
                entries += [of_line(name, line) for line in read_log(f"{directory}/{count}.log")]
            followers[name] = Follower(directory, (restart_counts(directory) or [0])[-1], at_end=False)
            entries += [of_line(name, line) for line in followers[name].pump()]
    width = max((len(name) for name in lookup.container_names(pod)), default=0)
    for one in in_order(entries, pod):
        if one.time >= since:
            print(render(one, width))
    if options.follow:
        shown.update(entries)
        _follow(options, pod, followers, shown, width)
    return 0


def in_order(entries: Sequence[Entry], pod: Json) -> list[Entry]:
    """Return the entries as they came, each once.

    Of what is recorded by whole seconds, a pod's containers come in their order, and what is behind an init container
    that ended in the same second comes after its end.
    """
    ranks = {name: rank for rank, name in enumerate(lookup.container_names(pod))}
    inits = {one["name"] for one in pod["spec"].get("initContainers") or ()}
    ends: dict[int, int] = {}
    for one in entries:
        if one.what == "end" and one.container in inits:
            ends[int(one.time)] = max(ranks[one.container], ends.get(int(one.time), -1))

    def key(one: Entry) -> tuple[float, int, int, float]:
        second, rank = int(one.time), ranks.get(one.container, -1)
        is_behind = rank > ends.get(second, rank)
        return second + _LATE if is_behind else one.time, rank, one.order, one.time

    return sorted(dict.fromkeys(entries), key=key)


def of_events(events: Sequence[Json]) -> Iterator[Entry]:
    """Yield events, one that recurs at its first and its last time."""
    for one in events:
        kind = "event" if one.get("type") != "Warning" else "Warning"
        container = one.get("involvedObject", {}).get("fieldPath", "").partition("{")[2].rstrip("}")
        message = f"{one['reason']}: {one['message']}"
        first, last = one.get("firstTimestamp"), one.get("lastTimestamp") or one.get("eventTime")
        count = int(one.get("count") or 1)
        if count > 1 and first:
            yield Entry(seconds(first), 2, kind, container, message)
            message = f"{message} (x{count} by now)"
        yield Entry(seconds(last), 2, kind, container, message)


def of_states(known: facts.Facts) -> Iterator[Entry]:
    """Yield the starts and ends that are recorded: all that the daemon knows, or the two newest of the status."""
    status = known.pod.get("status", {})
    found: set[tuple[str, str]] = set()
    for one in known.instances:
        state = {"running": {"startedAt": one.get("startedAt")}}
        if one.get("exit"):
            state = {"terminated": {"startedAt": one.get("startedAt"), **one["exit"]}}
        yield from _of_state(str(one.get("container", "")), state, found)
    for group in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(group) or ():
            for state in (one.get("lastState") or {}, one.get("state") or {}):
                yield from _of_state(one["name"], state, found)


def _of_state(name: str, state: Json, found: set[tuple[str, str]]) -> Iterator[Entry]:
    running, ended = state.get("running"), state.get("terminated")
    started = (running or ended or {}).get("startedAt")
    if started and (name, started) not in found:
        found.add((name, started))
        yield Entry(seconds(started), 1, "start", name, "container started")
    if ended is not None and ended.get("finishedAt"):
        reason = f" ({ended['reason']})" if ended.get("reason") else ""
        text = f"container ended with exit code {ended.get('exitCode', 0)}{reason}"
        # Its time is a whole second: what it printed in that second came before.
        yield Entry(seconds(ended["finishedAt"]) + _LATE, 4, "end", name, text)


def of_line(container: str, line: LogLine) -> Entry:
    """Return a line of a log."""
    from minikubelet.cli.logs import seconds as stamp

    what = "out" if line.stream == b"stdout" else "err"
    return Entry(stamp(line.stamp), 3, what, container, line.text.decode("utf-8", "replace"))


def render(one: Entry, width: int) -> str:
    """Return an entry as a line: the time, who, what."""
    clock = datetime.fromtimestamp(one.time).strftime("%H:%M:%S.%f")[:-3]
    if one.order in (1, 2, 4):
        clock = f"{clock[:8]}    "  # these are recorded by whole seconds
    colour = {"Warning": terminal.YELLOW, "end": terminal.RED, "start": terminal.GREEN, "event": terminal.DIM}
    text = terminal.printable(one.text) if one.what not in ("out", "err") else one.text
    head = f"{clock}  {one.container or '-':<{width}}  {one.what:<7}  "
    return head + terminal.paint(text, colour.get(one.what, ""))


def _follow(
    options: argparse.Namespace, pod: Json, followers: dict[str, Follower], shown: set[Entry], width: int
) -> None:
    from minikubelet.linux.inotify import Bell

    bell = Bell()
    try:
        while True:
            for name in followers:
                bell.watch(container_directory(options.log_dir, pod, name))
            entries = [of_line(name, line) for name, follower in followers.items() for line in follower.pump()]
            known = _look(options, pod)
            if known is not None:
                entries += [*of_events(known.events), *of_states(known)]
            for one in in_order([one for one in entries if one not in shown], pod):
                print(render(one, width))
            shown.update(entries)
            sys.stdout.flush()
            if known is None or known.pod.get("status", {}).get("phase") in _TERMINAL:
                return
            bell.wait(_LOOK_S)
    finally:
        bell.close()


def _look(options: argparse.Namespace, pod: Json) -> facts.Facts | None:
    """Return the pod as it is now, None when it is gone."""
    meta = pod["metadata"]
    for one in client.pods(options, meta["namespace"], "", f"metadata.name={meta['name']}"):
        if one["metadata"]["uid"] == meta["uid"]:
            return facts.gather(options, one)
    return None
