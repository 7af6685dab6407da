"""`minikubelet cp FROM TO`: copies files into a container and out of it, by `tar` running there."""

from __future__ import annotations

import argparse
import contextlib
import os
import posixpath
import tarfile
import threading
from collections.abc import Callable
from typing import IO, Any, Final, NamedTuple

from minikubelet.cli import client, lookup
from minikubelet.cli.arguments import add_container, add_namespace
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.progress import Progress
from minikubelet.cli.session import Session

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet cp ./site web:/www                 a file or a whole directory into a pod
  minikubelet cp web:/var/log/app.log app.log    and out of it
  minikubelet cp other/web:/etc/app /tmp/app -c server

The container needs the program tar. What others can choose is not trusted: links and devices that come out of a
container are left out and told, and nothing is written outside the target.
"""

_PROGRESS_S: Final = 1.0


class Place(NamedTuple):
    """One end of a copy; `pod` is "" for this machine."""

    pod: str
    path: str
    namespace: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="FROM", help="PATH, POD:PATH or NAMESPACE/POD:PATH")
    parser.add_argument("target", metavar="TO", help="PATH, POD:PATH or NAMESPACE/POD:PATH, one of both in a pod")
    add_namespace(parser)
    add_container(parser)
    parser.add_argument("--no-preserve", action="store_true", help="leave owners and modes to the target")


def execute(options: argparse.Namespace) -> int:
    """Copy."""
    source, target = (_place(text, options.namespace) for text in (options.source, options.target))
    if bool(source.pod) == bool(target.pod):
        raise CommandFailed("one of both must be in a pod, as POD:PATH, and the other on this machine", 2)
    if target.pod:
        return _Copy(options, target).upload(source.path)
    return _Copy(options, source).download(target.path)


def _place(text: str, namespace: str) -> Place:
    head, colon, path = text.partition(":")
    if not colon or text.startswith((".", "/")) or os.path.exists(text):
        return Place("", text, "")
    if not path:
        raise CommandFailed(f'"{text}" has no path behind the colon', 2)
    own, slash, name = head.partition("/")
    return Place(name, path, own) if slash else Place(head, path, namespace)


class _Copy:
    """One copy to or from a place in a pod."""

    def __init__(self, options: argparse.Namespace, place: Place) -> None:
        self._options = options
        self._pod = lookup.find_pod(options, place.namespace, place.pod)
        self._container = lookup.default_container(self._pod, options.container)
        self._path = place.path
        self._count = _Count()

    def _session(self, *command: str, stdin: bool = False) -> Session:
        return Session(self._options, self._pod, "exec", self._container, command=command, stdin=stdin)

    def _is_directory(self, path: str) -> bool:
        return self._session("test", "-d", path).run(stdout=_nowhere, stderr=_nowhere) == 0

    def upload(self, source: str) -> int:
        """Copy a local file or directory into the pod."""
        if not os.path.lexists(source):
            raise CommandFailed(f"cannot read {source}: No such file or directory")
        target = self._path
        if target.endswith("/") or self._is_directory(target):
            target = posixpath.join(target, os.path.basename(os.path.abspath(source)))
        directory, name = posixpath.split(posixpath.normpath(target))
        keep = ["--no-same-permissions", "--no-same-owner"] if self._options.no_preserve else []
        session = self._session("tar", "-xmf", "-", *keep, "-C", directory or ".", stdin=True)
        reader, writer = os.pipe()
        failures: list[Exception] = []

        def pack() -> None:
            try:
                with (
                    open(writer, "wb") as pipe,
                    tarfile.open(fileobj=self._count.through(pipe), mode="w|") as packed,
                ):
                    packed.add(source, arcname=name)
            except (OSError, tarfile.TarError) as error:
                failures.append(error)

        thread = threading.Thread(target=pack, daemon=True)
        thread.start()
        try:
            code = session.run(stdin=reader)
        finally:
            os.close(reader)
            self._count.end()
        thread.join(5.0)
        if failures and not isinstance(failures[0], BrokenPipeError):
            raise CommandFailed(f"cannot copy {source}: {failures[0]}") from failures[0]
        return self._judge(code)

    def download(self, target: str) -> int:
        """Copy a file or directory out of the pod."""
        source = posixpath.normpath(self._path)
        if os.path.isdir(target):
            target = os.path.join(target, posixpath.basename(source))
        elif target.endswith("/"):
            raise CommandFailed(f"cannot write to {target}: there is no such directory")
        directory, name = posixpath.split(source)
        session = self._session("tar", "-cf", "-", "-C", directory or ".", "--", name or ".")
        reader, writer = os.pipe()
        unpacker = _Unpacker(target, name or ".", preserve=not self._options.no_preserve)
        thread = threading.Thread(target=unpacker.run, args=(reader,), daemon=True)
        thread.start()
        write = self._count.through(open(writer, "wb"))  # noqa: SIM115  # closed below

        def take(data: bytes) -> None:
            with contextlib.suppress(BrokenPipeError):
                write.write(data)

        try:
            code = session.run(stdout=take)
        finally:
            with contextlib.suppress(BrokenPipeError):
                write.close()
            self._count.end()
        thread.join()
        if unpacker.failure is not None and code == 0:
            raise CommandFailed(f"cannot copy to {target}: {unpacker.failure}") from unpacker.failure
        return self._judge(code)

    def _judge(self, code: int) -> int:
        if code in (126, 127):
            raise CommandFailed(f"the container {self._container} has no program tar, which cp needs")
        if code:
            raise CommandFailed(f"tar in the container {self._container} ended with exit code {code}")
        return 0


def _nowhere(data: bytes) -> None:
    return None


class _Unpacker:
    """Unpacks files and directories below a target; everything else is left out and told."""

    def __init__(self, target: str, name: str, *, preserve: bool) -> None:
        self._target = target
        self._name = name
        self._preserve = preserve
        self.failure: Exception | None = None

    def run(self, descriptor: int) -> None:
        """Unpack a stream."""
        try:
            with open(descriptor, "rb") as pipe, tarfile.open(fileobj=pipe, mode="r|") as packed:
                for member in packed:
                    self._unpack(packed, member)
        except (OSError, tarfile.TarError) as error:
            self.failure = error

    def _unpack(self, packed: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = posixpath.normpath(member.name)
        inside = posixpath.relpath(path, self._name) if self._name != "." else path
        if posixpath.isabs(path) or inside.startswith("..") or "\0" in path:
            client.tell_once(f"left out {member.name}: it is not below what was asked for")
            return
        local = self._target if inside == "." else os.path.join(self._target, inside)
        if member.isdir():
            os.makedirs(local, exist_ok=True)
        elif member.isreg():
            os.makedirs(os.path.dirname(local) or ".", exist_ok=True)
            self._write(packed, member, local)
        else:
            client.tell_once(f"left out {member.name}: it is no file and no directory")
            return
        if self._preserve:
            os.chmod(local, member.mode & 0o777 | (0o700 if member.isdir() else 0))

    def _write(self, packed: tarfile.TarFile, member: tarfile.TarInfo, local: str) -> None:
        content = packed.extractfile(member)
        if content is None:
            return
        # Only the target itself may be a link, as it is the user's own: below it no link is followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | (os.O_NOFOLLOW if local != self._target else 0)
        with open(os.open(local, flags, 0o666), "wb") as file:
            while data := content.read(1 << 18):
                file.write(data)


class _Count:
    """Counts what is copied, and says so on a terminal when it takes longer than a second."""

    def __init__(self) -> None:
        self._line = Progress()
        self._count = 0

    def through(self, pipe: IO[bytes]) -> Any:
        """Return a writer that counts what goes through it."""
        return _Counting(pipe, self._add)

    def _add(self, count: int) -> None:
        self._count += count
        if self._line.is_due and self._line.age >= _PROGRESS_S:
            self._line.show(f"{self._count / 2**20:.0f} MiB copied")

    def end(self) -> None:
        """Take the line away."""
        self._line.clear()


class _Counting:
    def __init__(self, pipe: IO[bytes], add: Callable[[int], None]) -> None:
        self._pipe = pipe
        self._add = add

    def write(self, data: bytes) -> int:
        count = self._pipe.write(data)
        self._add(count)
        return count

    def close(self) -> None:
        self._pipe.close()
