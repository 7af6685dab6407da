"""Chaos: random manifests and edits, SIGKILL to anything at random moments, faults, and after each round the laws.

    python -m tests.chaos --seconds 60 [--seed N]

Prints the seed first and one line a round; ends with 1 at the first broken law and keeps the node's directory then.
Needs root. Everything lies below one temporary directory, on a bridge of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from minikubelet.linux.faults import VARIABLE
from tests.chaos import laws
from tests.chaos.faults import random_rules
from tests.chaos.pods import ChaosPod, manifest, random_pod
from tests.conftest import Node

_SETTLE_S: Final = 60.0
_MOST_STARTS: Final = 4
_NAMES: Final = tuple(f"p{number}" for number in range(12))
_CONFIG: Final = f"""crashLoopBackOff: {{maxContainerRestartPeriod: 1s}}
containerLogMaxSize: 16Ki
containerLogMaxFiles: {laws.LOG_FILES}
"""


class Violation(Exception):
    """A law is broken."""


class Chaos:
    """One run: the node, what is wanted of it, and what was done to it."""

    def __init__(self, base: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        number = os.getpid() % 10000
        self.node = Node(base, number, config=_CONFIG)
        self.address = f"127.{10 + number // 250}.{number % 250}.1"  # its host ports are nobody else's
        self.locks = base / "locks"
        self.locks.mkdir()
        self.wanted: dict[str, ChaosPod] = {}
        self.done: Counter[str] = Counter()
        self._counts: dict[str, int] = {}
        self._ends: dict[str, str] = {}
        self._hits: Counter[str] = Counter()  # kills by the pod that they hit, since its last edit
        self._uids: dict[str, set[str]] = {}  # that a name's pods have had since it was last removed or edited
        self._reused: set[str] = set()  # pods that were removed and written again: their events go on
        self._faulted: set[str] = set()  # pods that lived through injected faults
        self.rules = ""
        self._actions = (
            (self.add, 6),
            (self.edit, 3),
            (self.remove, 3),
            (self.break_and_mend, 2),
            (self.kill_daemon, 4),
            (self.kill_pause, 6),
            (self.kill_forkserver, 3),
            (self.kill_container, 9),
            (self.kill_many, 6),
            (self.hang_pause, 1),
        )

    def round(self) -> None:
        """Do a few things at random moments, then let the node settle and check every law."""
        actions, weights = zip(*self._actions, strict=True)
        self.restart(random_rules(self.chance))
        with_faults = bool(self.rules)
        # Errors are tried again after seconds; where there are none, much can happen in a round.
        for _ in range(self.chance.randint(5, 20) if with_faults else self.chance.randint(20, 80)):
            action = self.chance.choices(actions, weights)[0]
            action()
            self.done[action.__name__] += 1
            time.sleep(self.chance.choice((0, 0, 0, 0.005, 0.02, 0.1, 0.3)))  # the random moment itself
            self.revive()
        if with_faults:
            # Pauses that were made under the rules keep them, so they go, before the daemon does or after it.
            last, first = self.chance.sample((lambda: self.restart(""), self.kill_pauses), 2)
            first()
            last()
        self.settle()
        self.check(with_faults=with_faults)
        if self.chance.random() < 0.3:
            self.check_fresh_daemon()

    def restart(self, rules: str) -> None:
        """Kill the daemon and start another under these rules."""
        self.node.kill()
        self.done["kills"] += 1
        self.rules = rules
        self.start()

    def kill_pauses(self) -> None:
        """Kill every pause, one after the other."""
        for process in laws.children_of(self.node)["pause"]:
            self._hit(process)

    def start(self) -> None:
        """Start a daemon under the rules of the round; one that a fault ends while it starts is started again."""
        for _ in range(_MOST_STARTS):
            os.environ[VARIABLE] = self.rules
            try:
                self.node.start()
            except AssertionError:
                if not self.rules or self.node.process is None or self.node.process.poll() is None:
                    raise
            finally:
                del os.environ[VARIABLE]
            if self.node.process is not None and self.node.process.poll() is None:
                return
            self.done["faults that ended the daemon"] += 1
        self.rules = ""  # with these it does not get up
        self.node.start()

    def revive(self) -> None:
        """Start the daemon again when a fault has ended it."""
        if self.node.process is None or self.node.process.poll() is not None:
            if not self.rules:
                raise Violation("the daemon ended by itself")
            self.done["faults that ended the daemon"] += 1
            self.node.kill()
            self.start()

    def check_fresh_daemon(self) -> None:
        """Kill the daemon once more: the next one must write the status that stood there before."""
        before = laws.settled_statuses(self.node, self.wanted)
        self.restart("")
        self.settle()
        after = laws.settled_statuses(self.node, self.wanted)
        if problems := laws.differences(before, after):
            raise Violation("; ".join(problems[:5]))

    def settle(self) -> None:
        """Wait until the node shows what is wanted."""
        deadline = time.monotonic() + _SETTLE_S
        while (open_point := laws.unsettled(self.node, self.wanted)) or laws.leaks(self.node, self.wanted):
            if self.node.process is None or self.node.process.poll() is not None:
                raise Violation("the daemon ended by itself")
            if time.monotonic() > deadline:
                raise Violation(f"not settled: {open_point or laws.leaks(self.node, self.wanted)}")
            time.sleep(0.05)

    def check(self, *, with_faults: bool) -> None:
        """Raise Violation when a law does not hold."""
        for name in self.wanted:
            self._note_uid(name)
        problems = laws.broken_logs(self.node, self.wanted)
        problems += laws.unexplained_restarts(self.node, self.wanted, self._counts)
        if with_faults:
            self._faulted |= {key.partition("/")[0] for key in self._counts}
        else:
            problems += laws.causeless_restarts(self.node, self.wanted, self._hits, self._faulted)
            problems += laws.too_many_starts(self.node, self.wanted, self._reused | self._faulted)
        problems += laws.changed_ends(self.node, self.wanted, self._ends)
        problems += laws.held_descriptors(self.node, self.wanted)
        problems += laws.internal_errors(self.node)
        if problems:
            raise Violation("; ".join(problems[:5]))

    # What is done

    def add(self) -> None:
        free = [name for name in _NAMES if name not in self.wanted]
        if free:
            self._write(random_pod(self.chance.choice(free), self.chance))

    def edit(self) -> None:
        if self.wanted:
            pod = self.chance.choice(list(self.wanted.values())).edited()
            self._hits[pod.name] = 0
            self._part_with(pod.name)
            self._write(pod)

    def _write(self, pod: ChaosPod) -> None:
        self.wanted[pod.name] = pod
        self.node.write(f"{pod.name}.yaml", self._manifest(pod))

    def _manifest(self, pod: ChaosPod) -> str:
        return manifest(pod, str(self.locks), self.address)

    def remove(self) -> None:
        if self.wanted:
            name = self.chance.choice(list(self.wanted))
            del self.wanted[name]
            self._part_with(name)
            (self.node.manifests / f"{name}.yaml").unlink()

    def _part_with(self, name: str) -> None:
        """Expect nothing of a pod any more: written again, the same manifest is a new pod of the same UID."""
        self._note_uid(name)
        uids = self._uids.pop(name, set())
        self._counts = {key: count for key, count in self._counts.items() if key.partition("/")[0] not in uids}
        self._ends = {uid: phase for uid, phase in self._ends.items() if uid not in uids}
        self._reused |= uids

    def _note_uid(self, name: str) -> None:
        pod = self.node.pod(name)
        if pod is not None:
            self._uids.setdefault(name, set()).add(pod["metadata"]["uid"])

    def break_and_mend(self) -> None:
        if self.wanted:
            pod = self.chance.choice(list(self.wanted.values()))
            whole = self._manifest(pod)
            # Not "]": cut behind the first of two containers, that would be the manifest of another pod.
            self.node.write(f"{pod.name}.yaml", whole[: self.chance.randrange(len(whole))].rstrip() + "\n}")
            time.sleep(self.chance.choice((0, 0.05, 0.3)))
            self.node.write(f"{pod.name}.yaml", whole)

    def kill_daemon(self) -> None:
        self.node.kill()
        time.sleep(self.chance.choice((0, 0.05, 0.5)))
        self.start()

    def kill_pause(self) -> None:
        self._kill("pause")

    def kill_forkserver(self) -> None:
        self._kill("forkserver")

    def kill_container(self) -> None:
        self._kill("container")

    def kill_many(self) -> None:
        """Kill several processes of any kind in one moment, now and then with the daemon."""
        found = laws.children_of(self.node)
        victims = [one for kind in sorted(found) for one in found[kind]]
        victims = self.chance.sample(victims, min(len(victims), self.chance.randint(2, 12)))
        with_daemon = self.chance.random() < 0.3
        if with_daemon and self.node.process is not None:
            _signal(self.node.process.pid, signal.SIGKILL)
        for process in victims:
            self._hit(process)
        if with_daemon:
            self.done["kill_daemon"] += 1
            self.node.kill()
            self.start()

    def _kill(self, what: str) -> None:
        found = laws.children_of(self.node)[what]
        if found:
            self._hit(self.chance.choice(found))

    def _hit(self, process: int) -> None:
        """Kill a process and note which pod that concerns."""
        self._hits[laws.pod_of(process)] += 1
        _signal(process, signal.SIGKILL)
        self.done["kills"] += 1

    def hang_pause(self) -> None:
        found = laws.children_of(self.node)["pause"]
        if found:
            process = self.chance.choice(found)
            _signal(process, signal.SIGSTOP)
            time.sleep(0.5)
            _signal(process, signal.SIGCONT)

    # The end

    def end(self) -> None:
        """Remove every pod and the node; raise Violation when anything is left."""
        self.node.kill()
        self.node.start()
        self.node.stop()
        if left := self.node.leftovers():
            raise Violation(f"left on the machine: {left}")


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def main() -> int:
    """Run rounds until the time is over."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the node is ended in that case too
    parser = argparse.ArgumentParser(prog="chaos", description="Random kills and edits, and the laws that must hold.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of an earlier run")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("chaos needs root: namespaces and mounts", file=sys.stderr)
        return 2
    print(f"seed {arguments.seed}", flush=True)
    base = Path(tempfile.mkdtemp(prefix="mkchaos"))
    os.chmod(base, 0o755)
    chaos = Chaos(base, arguments.seed)
    deadline = time.monotonic() + arguments.seconds
    rounds = 0
    try:
        chaos.node.start()
        while time.monotonic() < deadline:
            started = time.monotonic()
            chaos.round()
            rounds += 1
            print(f"round {rounds}: {len(chaos.wanted)} pods, {time.monotonic() - started:.1f} s", flush=True)
        chaos.end()
    except (Violation, AssertionError, subprocess.SubprocessError) as problem:
        print(f"VIOLATION in round {rounds + 1}, seed {arguments.seed}: {problem}\nkept: {base}", file=sys.stderr)
        for evidence in ("run/status", "log", "state"):  # the daemon takes them away on its way down
            shutil.copytree(base / evidence, base / "evidence" / evidence, symlinks=True, dirs_exist_ok=True)
        return 1
    finally:
        chaos.node.stop()
    shutil.rmtree(base)
    total = chaos.done["kills"] + chaos.done["kill_daemon"] + chaos.done["faults that ended the daemon"]
    print(f"{rounds} rounds, {total} kills, no law broken: {dict(chaos.done)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
