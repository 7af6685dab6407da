"""The same for peers, where they are installed: what starts programs on this machine beside us.

Each is run as its own manual says, below a directory of this run's own, and ended afterwards. A peer that is not
installed, or does not work here, is passed over and named.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.bench.marks import Marks, program
from tests.bench.measures import Bench

_COUNTS: Final = (1, 10, 50)


def measure(bench: Bench) -> None:
    """Measure each peer that is there."""
    for name, (command, run) in _PEERS.items():
        if shutil.which(command) is None:
            print(f"  {name}: not installed, passed over", file=sys.stderr)
            continue
        try:
            run(bench)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            print(f"  {name}: does not work here: {said[-1] if said else error}", file=sys.stderr)
        except (OSError, TimeoutError) as error:
            print(f"  {name}: does not work here: {error}", file=sys.stderr)


def _counts(bench: Bench) -> tuple[int, ...]:
    return _COUNTS[:2] if bench.quick else _COUNTS


def _measure_start(bench: Bench, name: str, marks: Marks, count: int, begin: Callable[[list[str]], None]) -> list[str]:
    """From the moment in which the peer is told until the last program's first instruction."""
    words = bench.words(count)
    marks.drain()
    began = time.monotonic()
    begin(words)
    took = (max(marks.wait(words, 300).values()) - began) * 1000
    bench.add(f"{count} at once, the last one", [took], "ms", subject=name)
    return words


def _measure_restart(bench: Bench, name: str, marks: Marks, words: list[str]) -> None:
    time.sleep(1.5)  # a program that ends within its first second is held back by runit and s6
    values = []
    for word in words[:5]:
        marks.drain()
        began = time.monotonic()
        os.kill(_find(f"echo {word} >"), signal.SIGKILL)
        values.append((marks.wait([word], 60)[word] - began) * 1000)
    bench.add("kill -9 to first instruction of the restart", values, "ms", subject=name)


def _find(text: str) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    return int(entry.name)
    raise OSError(f"no process says {text!r}")


@contextlib.contextmanager
def _marks(bench: Bench, name: str) -> Iterator[Marks]:
    marks = Marks(bench.base / f"marks-{name}-{time.monotonic_ns()}")
    try:
        yield marks
    finally:
        marks.close()


def _script(word: str, marks: Marks) -> str:
    """Return a script whose process is then told by its command line."""
    return f'#!/bin/sh\nexec /bin/sh -c "{program(word, str(marks.directory))[2]}"\n'


def _supervisord(bench: Bench) -> None:
    """Programs in its configuration, taken up by `supervisorctl update`."""
    for count in _counts(bench):
        base = bench.base / f"supervisord{count}"
        base.mkdir()
        config = base / "supervisord.conf"
        head = (
            f"[supervisord]\nlogfile={base}/log\npidfile={base}/pid\nchildlogdir={base}\nnodaemon=true\n"
            f"[unix_http_server]\nfile={base}/sock\n[supervisorctl]\nserverurl=unix://{base}/sock\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        config.write_text(head)
        daemon = subprocess.Popen(
            ["supervisord", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not (base / "sock").exists():
                time.sleep(0.02)
            with _marks(bench, "supervisord") as marks:

                def begin(words: list[str], base: Path = base, config: Path = config, marks: Marks = marks) -> None:
                    for word in words:
                        script = base / word
                        script.write_text(_script(word, marks))
                        script.chmod(0o755)
                    parts = [f"[program:{word}]\ncommand=/bin/sh {base}/{word}\nautorestart=true\n" for word in words]
                    config.write_text(config.read_text() + "".join(parts))
                    subprocess.run(["supervisorctl", "-c", str(config), "update"], check=True, capture_output=True)

                _measure_start(bench, "supervisord", marks, count, begin)
        finally:
            daemon.terminate()
            daemon.wait()


def _scanned(bench: Bench, name: str, scanner: str, nudge: Callable[[Path], None]) -> None:
    """Service directories below one that a scanner watches (runit, s6)."""
    for count in _counts(bench):
        base = bench.base / f"{name}{count}"
        base.mkdir()
        daemon = subprocess.Popen(
            [scanner, str(base)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            with _marks(bench, name) as marks:
                time.sleep(1)

                def begin(words: list[str], base: Path = base, marks: Marks = marks) -> None:
                    for word in words:
                        service = base / f".{word}"
                        service.mkdir()
                        run = service / "run"
                        run.write_text(_script(word, marks))
                        run.chmod(0o755)
                        service.rename(base / word)
                    nudge(base)

                words = _measure_start(bench, name, marks, count, begin)
                if count == _counts(bench)[0]:
                    _measure_restart(bench, name, marks, words)
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait()
            for word in base.iterdir():
                with contextlib.suppress(OSError):
                    os.kill(_find(f"echo {word.name} >"), signal.SIGKILL)


def _runit(bench: Bench) -> None:
    """Its scanner looks every 5 s, or at once after SIGALRM in newer versions: the directory is simply waited for."""
    _scanned(bench, "runit", "runsvdir", lambda base: None)


def _s6(bench: Bench) -> None:
    """Its scanner is told to look."""
    _scanned(
        bench,
        "s6",
        "s6-svscan",
        lambda base: subprocess.run(["s6-svscanctl", "-a", str(base)], check=True, capture_output=True) and None,
    )


def _podman(bench: Bench) -> None:
    """`podman kube play` of a pod of one container, from an image of one static shell that was imported before."""
    shell = shutil.which("busybox")
    if shell is None:
        raise OSError("busybox is needed for its image: install busybox-static")
    root = bench.base / "podman-root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shell, root / "bin" / "busybox")
    for name in ("sh", "sleep", "echo"):
        (root / "bin" / name).symlink_to("busybox")
    archive = bench.base / "podman.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    podman = ["podman", "--root", str(bench.base / "podman-storage"), "--runroot", str(bench.base / "podman-run")]
    podman += ["--cgroup-manager=cgroupfs", "--events-backend=none"]
    if shutil.which("runc"):  # crun, the default, does not work where both versions of control groups are mounted
        podman += ["--runtime=runc"]
    image = "localhost/mkbench:1"
    # The limits of this process, for machines where root may not raise them.
    soft, hard = (min(one, 1024) for one in resource.getrlimit(resource.RLIMIT_NOFILE))
    limits = bench.base / "containers.conf"
    limits.write_text(f'[containers]\ndefault_ulimits = ["nofile={soft}:{hard}", "nproc=1024:1024"]\n')
    os.environ["CONTAINERS_CONF"] = str(limits)
    subprocess.run([*podman, "import", str(archive), image], check=True, capture_output=True)
    try:
        for count in _counts(bench):
            with _marks(bench, "podman") as marks:
                files: list[Path] = []

                def begin(words: list[str], marks: Marks = marks, files: list[Path] = files) -> None:
                    from tests.bench.pods import marked

                    for word in words:
                        path = bench.base / f"{word}.yaml"
                        text = marked(word, marks).replace(
                            '"image": "host"', f'"image": "{image}", "imagePullPolicy": "Never"'
                        )
                        path.write_text(text)
                        files.append(path)
                    for path in files:
                        subprocess.run([*podman, "kube", "play", str(path)], check=True, capture_output=True)

                try:
                    _measure_start(bench, "podman kube play", marks, count, begin)
                finally:
                    for path in files:
                        subprocess.run([*podman, "kube", "down", str(path)], check=False, capture_output=True)
    finally:
        subprocess.run([*podman, "system", "reset", "--force"], check=False, capture_output=True)


_PEERS: Final = {
    "supervisord": ("supervisord", _supervisord),
    "runit": ("runsvdir", _runit),
    "s6": ("s6-svscan", _s6),
    "podman kube play": ("podman", _podman),
}
