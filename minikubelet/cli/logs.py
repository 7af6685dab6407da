"""`minikubelet logs`: reads the log files, so it works with and without the daemon, across rotations and restarts."""

from __future__ import annotations

import argparse
import heapq
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from minikubelet.cli import client, lookup, terminal
from minikubelet.cli.arguments import add_namespace, duration, moment, namespace_of, whole
from minikubelet.cli.log_files import (
    Follower,
    LogLine,
    container_directory,
    parts,
    pod_directory,
    read_log,
    restart_counts,
)
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.progress import Progress

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet logs web                         what the pod's first container printed
  minikubelet logs web -c server -c helper     two containers, in the order of time
  minikubelet logs -f -l app=web               all pods with a label, over restarts and edits, new ones too
  minikubelet logs web -p                      of the instance before the last restart
  minikubelet logs web --since=10m --timestamps
"""

# How often to look when nothing rings: for file systems that tell nothing.
_LOOK_S: Final = 2.0
_GONE_S: Final = 3.0
_TERMINAL: Final = ("Succeeded", "Failed")
# kubectl's, when pods are chosen by label.
_TAIL_BY_LABEL: Final = 10


class Source:
    """A container of a pod whose log is wanted."""

    def __init__(self, pod: Json, container: str) -> None:
        self.pod = pod
        self.container = container
        self.name = f"{pod['metadata']['name']}/{container}"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pods", nargs="*", metavar="POD", help="one or several pods, each perhaps as POD/CONTAINER")
    add_namespace(parser, all_too=True)
    parser.add_argument("-l", "--selector", default="", help="all pods with these labels")
    parser.add_argument("-c", "--container", action="append", default=[], help="one container; may be given again")
    parser.add_argument("--all-containers", action="store_true", help="all containers, init containers too")
    parser.add_argument("-f", "--follow", action="store_true", help="go on, over restarts, until the pods have ended")
    parser.add_argument("-p", "--previous", action="store_true", help="of the instance before this one")
    parser.add_argument("--since", type=duration, metavar="DURATION", help="only what is younger: 5s, 2m, 3h")
    parser.add_argument("--since-time", type=moment, metavar="TIME", help="only what came after (RFC 3339)")
    parser.add_argument("--tail", type=whole, metavar="LINES", help="only the last lines (with -l: 10; -1 means all)")
    parser.add_argument("--timestamps", action="store_true", help="put the time before each line")
    parser.add_argument("--prefix", action="store_true", default=None, help="put [pod/POD/CONTAINER] before each line")
    parser.add_argument("--no-prefix", dest="prefix", action="store_false", help="no prefix, also for several sources")
    parser.add_argument("--limit-bytes", type=whole, default=0, metavar="N", help="stop after so many bytes")
    parser.add_argument("--stream", choices=["All", "Stdout", "Stderr"], default="All", help="only one of the streams")
    parser.add_argument("--ignore-errors", action="store_true", help="go on when one of several logs cannot be read")
    parser.add_argument("--max-log-requests", type=whole, help=argparse.SUPPRESS)  # kubectl's; there is no such limit


def execute(options: argparse.Namespace) -> int:
    """Print containers' logs."""
    if not options.pods and not options.selector:
        raise CommandFailed("say which pods: by name, or with -l by label; 'minikubelet get pods' lists them", 2)
    _check(options)
    sources = _sources(options)
    printer = Printer(options, several=len(sources) > 1 or (options.follow and bool(options.selector)))
    if options.follow and not options.previous:
        _follow(options, sources, printer)
        return 0
    code = 0
    logs: list[Iterator[tuple[float, Source, LogLine]]] = []
    for one in sources:
        try:
            logs.append(_past(options, one))
        except CommandFailed as failure:
            if len(sources) == 1 and not options.ignore_errors:
                raise
            client.tell_once(str(failure))
            code = 0 if options.ignore_errors else 1
    for _, source, line in heapq.merge(*logs, key=lambda one: one[0]) if len(logs) > 1 else _chain(logs):
        printer.print(source, line)
    return code


def _chain(logs: Sequence[Iterator[tuple[float, Source, LogLine]]]) -> Iterator[tuple[float, Source, LogLine]]:
    for one in logs:
        yield from one


def _sources(options: argparse.Namespace) -> list[Source]:
    namespace = namespace_of(options)
    if options.selector:
        pods = client.pods(options, namespace, options.selector)
        if not pods and not options.follow:
            print(f"No resources found in {namespace or 'any'} namespace.", file=sys.stderr)
        return [Source(pod, name) for pod in pods for name in _containers(options, pod, options.container)]
    found: list[Source] = []
    for word in options.pods:
        name, _, container = word.removeprefix("pod/").removeprefix("pods/").partition("/")
        pod = lookup.find_pod(options, namespace, name)
        chosen = [container] if container else options.container
        found += [Source(pod, one) for one in _containers(options, pod, chosen)]
    return found


def _containers(options: argparse.Namespace, pod: Json, chosen: Sequence[str]) -> list[str]:
    names = lookup.container_names(pod)
    if options.all_containers:
        return names
    if chosen:
        return [lookup.choose_container(pod, one) for one in chosen]
    return [lookup.default_container(pod, "")]


def _past(options: argparse.Namespace, source: Source) -> Iterator[tuple[float, Source, LogLine]]:
    """Yield what is there of one log. Raises CommandFailed before the first line."""
    path = _path(options, source)
    tail = _tail(options)
    since = _since(options)
    if not os.path.exists(path) and not parts(path)[:-1]:
        raise CommandFailed(f"cannot read {path}: there is no such log (yet)")

    def lines() -> Iterator[tuple[float, Source, LogLine]]:
        for line in read_log(path, tail=tail):
            stamp = seconds(line.stamp)
            if stamp >= since:
                yield stamp, source, line

    return lines()


def _path(options: argparse.Namespace, source: Source) -> str:
    pod, container = source.pod, source.container
    name = pod["metadata"]["name"]
    status = lookup.container_status(pod, container)
    directory = container_directory(options.log_dir, pod, container)
    counts = restart_counts(directory)
    count = int(status.get("restartCount", 0))
    state = status.get("state") or {}
    if options.previous:
        if "terminated" not in (status.get("lastState") or {}):
            hint = "it has not restarted yet; without -p you see what runs now"
            raise CommandFailed(f'previous terminated container "{container}" in pod "{name}" not found: {hint}')
        # While it waits for its next start, the instance that ended last is the current one of the count.
        count -= 0 if "waiting" in state else 1
    elif not status.get("containerID") and count not in counts:
        reason = (state.get("waiting") or {}).get("reason") or "ContainerCreating"
        raise CommandFailed(
            f'container "{container}" in pod "{name}" is waiting to start: {reason}; '
            f"'minikubelet why {lookup.manifest_name(pod)}' says what it waits for, logs -f waits along"
        )
    return os.path.join(directory, f"{count}.log")


def _check(options: argparse.Namespace) -> None:
    """Raise CommandFailed for what kubectl refuses, in its words."""
    if options.since is not None and options.since_time is not None:
        raise CommandFailed("at most one of `sinceTime` or `sinceSeconds` may be specified", 2)
    if options.since is not None and options.since < 0:
        raise CommandFailed("--since must be greater than 0", 2)
    if options.tail is not None and options.tail < -1:
        raise CommandFailed("--tail must be greater than or equal to -1", 2)
    if options.limit_bytes < 0:
        raise CommandFailed("--limit-bytes must be greater than 0", 2)


def _tail(options: argparse.Namespace) -> int:
    if options.tail is not None:
        return int(options.tail)
    return _TAIL_BY_LABEL if options.selector and options.since is None and options.since_time is None else -1


def _since(options: argparse.Namespace) -> float:
    if options.since_time is not None:
        return datetime.fromisoformat(options.since_time).timestamp()
    return time.time() - options.since if options.since is not None else 0.0


def seconds(stamp: bytes) -> float:
    """Return a line's time in Unix seconds, 0 for one that cannot be read."""
    try:
        return datetime.fromisoformat(stamp.decode("ascii")).timestamp()
    except ValueError:
        return 0.0


class Printer:
    """Prints lines of several sources, each with a prefix in a colour of its own."""

    def __init__(self, options: argparse.Namespace, *, several: bool) -> None:
        self._timestamps = options.timestamps
        self._prefix = options.prefix if options.prefix is not None else several
        self._left = options.limit_bytes or None
        self._stream = options.stream.lower().encode()
        self.has_printed = False

    def print(self, source: Source, line: LogLine) -> None:
        """Print one line. Raises SystemExit when the limit is reached."""
        if self._stream not in (b"all", line.stream):
            return
        data = line.text + (b"\n" if line.whole or self._prefix else b"")
        if self._timestamps:
            data = line.stamp.replace(b"+00:00", b"Z") + b" " + data  # as kubectl and the API print them
        if self._prefix:
            data = _prefix(source.name).encode() + data
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self.has_printed = True
        sys.stdout.buffer.write(data)
        if self._left == 0:
            sys.stdout.flush()
            raise SystemExit(0)


def _prefix(name: str) -> str:
    """Return `[pod/POD/CONTAINER] ` in the colour that this name always has."""
    colour = terminal.PREFIXES[sum(name.encode()) % len(terminal.PREFIXES)]
    return terminal.paint(f"[pod/{name}]", colour) + " "


def _follow(options: argparse.Namespace, sources: Iterable[Source], printer: Printer) -> None:
    """Print what is there and then what comes, until all pods have ended."""
    from minikubelet.linux.inotify import Bell

    bell, progress = Bell(), Progress()
    try:
        following = Following(options, bell)
        histories = [following.add(one) for one in sources]
        for _, source, line in heapq.merge(*histories, key=lambda one: one[0]):
            printer.print(source, line)
        while True:
            pods = following.look()
            for source, line in following.pump():
                progress.clear()
                printer.print(source, line)
            sys.stdout.flush()
            if progress.is_due:
                progress.show(_silence(pods) if not printer.has_printed else "")
            if following.behind:
                continue
            if following.is_over(pods):
                for source, line in following.rest():
                    printer.print(source, line)
                return
            bell.wait(_LOOK_S)
    finally:
        progress.clear()
        bell.close()


def _silence(pods: Sequence[Json]) -> str:
    """Say what the pods do that have printed nothing yet."""
    from minikubelet.lifecycle.columns import status_column

    texts = [f"{one['metadata']['name']} ({status_column(one)})" for one in pods]
    return f"waiting for the first line of {', '.join(texts)}" if texts else "waiting for a pod"


class Following:
    """Which containers are followed, and whether any of them can still print."""

    def __init__(self, options: argparse.Namespace, bell: Any) -> None:
        self._options = options
        self._bell = bell
        self._namespace = namespace_of(options)
        self._followers: dict[tuple[str, str], tuple[Source, Follower]] = {}
        self._seen_at = time.monotonic()
        self._names: set[tuple[str, str]] = set()
        self._directories = (os.path.join(options.run_dir, "status"), os.path.join(options.log_dir, "pods"))

    def add(self, source: Source) -> Iterator[tuple[float, Source, LogLine]]:
        """Follow a container; yields what is there of it and was asked for, to be read before anything is pumped."""
        meta = source.pod["metadata"]
        key = (meta["uid"], source.container)
        if key in self._followers:
            return iter(())
        self._names.add((meta["namespace"], meta["name"]))
        directory = container_directory(self._options.log_dir, source.pod, source.container)
        counts = restart_counts(directory)
        count = counts[-1] if counts else 0
        follower = Follower(directory, count, at_end=False)
        self._followers[key] = (source, follower)
        return self._history(source, follower)

    def _history(self, source: Source, follower: Follower) -> Iterator[tuple[float, Source, LogLine]]:
        tail, since = _tail(self._options), _since(self._options)
        lines = follower.history(rotated=tail < 0)
        found = ((seconds(one.stamp), source, one) for one in lines)
        wanted = (one for one in found if one[0] >= since)
        yield from wanted if tail < 0 else deque(wanted, maxlen=tail)

    def look(self) -> list[Json]:
        """Watch what there is to watch, take up new containers, and return the pods that are followed."""
        for one in self._directories:
            self._bell.watch(one)
        pods = [pod for pod in self._published() if self._is_wanted(pod)]
        for pod in pods:
            for name in _containers(self._options, pod, self._options.container):
                self.add(Source(pod, name))  # new: all of it is pumped
        for source, _ in self._followers.values():
            self._bell.watch(pod_directory(self._options.log_dir, source.pod))
            self._bell.watch(container_directory(self._options.log_dir, source.pod, source.container))
        return pods

    def _published(self) -> list[Json]:
        down = client.DaemonDown(f"cannot read the status of pods in {self._directories[0]}")
        try:
            pods = client.read_status_files(self._options, down)
        except client.DaemonDown:
            return []
        return [one for one in pods if self._namespace in ("", one["metadata"]["namespace"])]

    def _is_wanted(self, pod: Json) -> bool:
        if self._options.selector:
            return bool(client.choose("pods", [pod], self._options.selector, ""))
        return (pod["metadata"]["namespace"], pod["metadata"]["name"]) in self._names

    def pump(self) -> Iterator[tuple[Source, LogLine]]:
        """Yield new lines, those of several sources in the order of time; a line of each is held at once."""
        streams = [_new_lines(source, follower) for source, follower in self._followers.values()]
        return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda one: seconds(one[1].stamp))

    def rest(self) -> Iterator[tuple[Source, LogLine]]:
        """Yield the last words of containers that print nothing any more."""
        for source, follower in self._followers.values():
            yield from ((source, line) for line in follower.rest())

    @property
    def behind(self) -> bool:
        """Tell whether there is more to print already."""
        return any(follower.behind for _, follower in self._followers.values())

    def is_over(self, pods: Sequence[Json]) -> bool:
        """Tell whether nothing more can come: every pod has ended, or is gone for good."""
        if self._options.selector:
            return False
        if pods:
            self._seen_at = time.monotonic()
        elif time.monotonic() - self._seen_at < _GONE_S:
            return False  # an edited pod is away for a moment
        return all(one.get("status", {}).get("phase") in _TERMINAL for one in pods)


def _new_lines(source: Source, follower: Follower) -> Iterator[tuple[Source, LogLine]]:
    for line in follower.pump():
        yield source, line
