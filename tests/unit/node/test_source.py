"""The manifest source on real files: what is taken, when it is heard, and what is not believed too early."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from minikubelet.node.desired import DesiredState
from minikubelet.node.source import ManifestSource

pytestmark = pytest.mark.anyio


def pod(name: str, *, text: str = "true", uid: str = "") -> str:
    meta = f"{{name: {name}, uid: {uid}}}" if uid else f"{{name: {name}}}"
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {meta}\n"
        f"spec: {{containers: [{{name: main, image: host, command: ['{text}']}}]}}\n"
    )


class Bench:
    """A source over a directory of its own, with everything it published."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "manifests"
        self.state = base / "state"
        self.state.mkdir()
        self.directory.mkdir()
        os.chmod(self.directory, 0o755)
        self.published: list[DesiredState] = []
        self.told = asyncio.Event()
        self.source: ManifestSource | None = None

    async def start(self, *, period_s: float = 60.0, path: Path | None = None) -> None:
        self.source = ManifestSource(
            directory=str(path or self.directory),
            state_dir=str(self.state),
            node_name="n1",
            period_s=period_s,
            strict_static=False,
            on_change=self._on_change,
        )
        await self.source.start()

    def _on_change(self, desired: DesiredState) -> None:
        self.published.append(desired)
        self.told.set()

    async def stop(self) -> None:
        if self.source is not None:
            await self.source.stop()
            self.source = None

    def write(self, name: str, text: str) -> Path:
        beside = self.directory / f".{name}.tmp"
        beside.write_text(text)
        os.chmod(beside, 0o644)
        return beside.rename(self.directory / name)

    @property
    def desired(self) -> DesiredState:
        return self.published[-1]

    def commands(self) -> dict[str, str]:
        return {one.pod.metadata.name: (one.pod.spec.containers[0].command or [""])[0] for one in self.desired.pods}

    def refusal(self, name: str) -> str:
        found = [one for one in self.desired.verdicts if Path(one.file).name == name]
        return "\n".join(found[0].errors()) if found else "no verdict"

    async def until(self, holds: Callable[[], bool], limit_s: float = 20.0) -> None:
        async with asyncio.timeout(limit_s):
            while not holds():
                self.told.clear()
                await self.told.wait()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    one = Bench(tmp_path)
    yield one
    await one.stop()


async def test_a_file_moved_out_is_heard_at_once(bench: Bench, tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(5)]
    paths = {f"{name}-n1": bench.write(f"{name}.yaml", pod(name)) for name in names}
    await bench.start()
    assert bench.commands() == dict.fromkeys(paths, "true")
    taken = []
    for name, path in paths.items():
        started = time.monotonic()
        path.rename(tmp_path / name)
        await bench.until(lambda name=name: name not in bench.commands())
        taken.append(time.monotonic() - started)
    assert min(taken) < 0.4  # what waits for a file to come back waits each time; a busy machine does not


async def test_an_edit_in_place_is_taken(bench: Bench) -> None:
    path = bench.write("a.yaml", pod("a"))
    await bench.start()
    path.write_text(pod("a", text="false"))
    await bench.until(lambda: bench.commands() == {"a-n1": "false"})


async def test_a_file_is_left_alone_while_it_is_open_for_writing(bench: Bench) -> None:
    await bench.start()
    text = pod("a") + "---\n" + pod("b")
    with (bench.directory / "a.yaml").open("w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text[: len(pod("a"))])
        file.flush()
        await bench.until(lambda: any(one.waiting for one in bench.desired.verdicts))
        assert bench.commands() == {}
        assert "open for writing" in bench.desired.verdicts[0].text()
        file.write(text[len(pod("a")) :])
    await bench.until(lambda: bool(bench.commands()))
    assert bench.commands() == {"a-n1": "true", "b-n1": "true"}
    assert not any(one.is_refused for state in bench.published for one in state.verdicts)


async def test_a_file_that_stays_open_is_taken_after_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minikubelet.node.source._QUIET_S", 0.3)
    await bench.start()
    with (bench.directory / "a.yaml").open("w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(pod("a"))
        file.flush()
        await bench.until(lambda: bool(bench.commands()))


async def test_pieces_that_are_each_closed_are_never_called_bad(bench: Bench) -> None:
    await bench.start()
    for piece in pod("a").splitlines(keepends=True):
        with (bench.directory / "a.yaml").open("a") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(piece)
        await asyncio.sleep(0.05)  # a writer that takes its time; what is told meanwhile must not be an error
    await bench.until(lambda: bool(bench.commands()))
    assert not any(one.is_refused for state in bench.published for one in state.verdicts)


async def test_a_bad_edit_keeps_the_last_good_version_over_a_restart(bench: Bench) -> None:
    path = bench.write("a.yaml", pod("a"))
    await bench.start()
    path.write_text("kind: [")
    await bench.until(lambda: bench.desired.verdicts[0].is_refused)
    assert bench.commands() == {"a-n1": "true"}
    assert bench.desired.verdicts[0].reason == "FailedParsing"
    assert "last good version" in bench.desired.verdicts[0].text()
    await bench.stop()
    await bench.start()
    assert bench.commands() == {"a-n1": "true"}
    await bench.until(lambda: bench.desired.verdicts[0].is_refused)
    assert bench.commands() == {"a-n1": "true"}


async def test_the_first_of_two_goes_on_over_a_restart(bench: Bench) -> None:
    bench.write("z.yaml", pod("a", text="first"))
    await bench.start()
    bench.write("a.yaml", pod("a", text="second"))
    await bench.until(lambda: "already defined" in bench.refusal("a.yaml"))
    assert bench.commands() == {"a-n1": "first"}
    await bench.stop()
    bench.write("0.yaml", pod("a", text="third"))
    await bench.start()
    assert bench.commands() == {"a-n1": "first"}
    (bench.directory / "z.yaml").unlink()
    await bench.until(lambda: bench.commands() == {"a-n1": "second"})
    assert bench.refusal("a.yaml") == ""
    bench.write("z.yaml", pod("a", text="back"))
    await bench.until(lambda: "already defined" in bench.refusal("z.yaml"))
    assert bench.commands() == {"a-n1": "second"}


async def test_a_renamed_file_stays_the_first(bench: Bench) -> None:
    path = bench.write("z.yaml", pod("a", text="first", uid="u1"))
    await bench.start()
    bench.write("a.yaml", pod("a", text="second"))
    await bench.until(lambda: "already defined" in bench.refusal("a.yaml"))
    path.rename(bench.directory / "y.yaml")
    await bench.until(lambda: bench.refusal("y.yaml") == "")
    assert bench.commands() == {"a-n1": "first"}
    assert "y.yaml" in bench.refusal("a.yaml")
    assert all(len(state.pods) == 1 for state in bench.published)


async def test_uids_config_maps_and_repetitions_are_judged_too(bench: Bench) -> None:
    bench.write("a.yaml", pod("a", uid="same"))
    await bench.start()
    bench.write("b.yaml", pod("b", uid="same"))
    await bench.until(lambda: "has the uid same of a pod in" in bench.refusal("b.yaml"))
    bench.write("c.yaml", pod("c") + "---\n" + pod("c", text="again"))
    await bench.until(lambda: "defined twice in this file" in bench.refusal("c.yaml"))
    assert bench.commands() == {"a-n1": "true", "c-n1": "true"}
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {which: %s}\n"
    bench.write("m.yaml", config_map % "first")
    await bench.until(lambda: bool(bench.desired.config_maps))
    bench.write("k.yaml", config_map % "second")
    await bench.until(lambda: "ConfigMap default/m is already defined" in bench.refusal("k.yaml"))
    assert [one.data for one in bench.desired.config_maps] == [{"which": "first"}]


async def test_an_exchanged_directory_is_never_an_empty_one(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikubelet.node.source._SWAP_S", 20)  # so that a busy machine exchanges it in time
    bench.write("a.yaml", pod("a", uid="u"))
    await bench.start()
    bench.directory.rename(tmp_path / "old")
    await asyncio.sleep(0.3)  # long enough that its absence is seen
    bench.directory.mkdir(mode=0o755)
    await asyncio.sleep(0.3)
    bench.write("a.yaml", pod("a", uid="u"))
    bench.write("b.yaml", pod("b"))
    await bench.until(lambda: len(bench.desired.pods) == 2)
    assert all(state.pods for state in bench.published)


async def test_a_directory_that_stays_away_is_empty_and_is_heard_when_it_returns(bench: Bench, tmp_path: Path) -> None:
    bench.write("a.yaml", pod("a"))
    await bench.start()
    bench.directory.rename(tmp_path / "old")
    await bench.until(lambda: not bench.desired.pods)
    assert "does not exist" in bench.refusal("manifests")
    (tmp_path / "old").rename(bench.directory)
    await bench.until(lambda: len(bench.desired.pods) == 1)
    assert bench.refusal("manifests") == "no verdict"


async def test_links_that_are_exchanged_as_config_map_volumes_do_it(bench: Bench, tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir(mode=0o755)
        (tmp_path / version / "a.yaml").write_text(pod("a", text=version))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "linked").symlink_to("..data")
    (bench.directory / "b.yaml").symlink_to(tmp_path / "..data" / "a.yaml")
    await bench.start(path=tmp_path / "linked")
    assert bench.commands() == {"a-n1": "1"}
    (tmp_path / "..next").symlink_to("2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    await bench.until(lambda: bench.commands() == {"a-n1": "2"})
    await bench.stop()
    await bench.start()
    assert bench.commands() == {"a-n1": "2"}
    (tmp_path / "..next").symlink_to("1")
    (tmp_path / "..next").rename(tmp_path / "..data")
    await bench.until(lambda: bench.commands() == {"a-n1": "1"})


async def test_a_lost_event_queue_leads_to_a_scan(bench: Bench) -> None:
    await bench.start()
    bell = bench.source._bell  # type: ignore[union-attr]  # there is no way to fill the kernel's queue in time
    assert bell is not None
    bell.watch([])
    bench.write("a.yaml", pod("a"))
    bell.on_queue_overflow()
    await bench.until(lambda: bool(bench.published) and bool(bench.commands()))


async def test_without_watches_the_directory_is_listed_regularly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr("minikubelet.node.bell._Reader.__init__", exhausted)
    await bench.start(period_s=0.2)
    bench.write("a.yaml", pod("a"))
    await bench.until(lambda: bool(bench.commands()))


@pytest.mark.parametrize("kind", ["fifo", "socket", "large", "binary", "dangling", "writable", "newline"])
async def test_what_cannot_be_trusted_or_read_is_refused_alone(bench: Bench, kind: str) -> None:
    import socket

    path = bench.directory / "bad.yaml"
    words = "not a regular file"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(path))
        case "large":
            path.write_text("#" * (10 * 1024 * 1024 + 1))
            words = "at most 10485760"
        case "binary":
            path.write_bytes(b"\x01\xff\xfe")
            words = "bad.yaml:1:"
        case "dangling":
            path.symlink_to("nowhere")
            words = "leads to no file"
        case "writable":
            path.write_text(pod("bad"))
            path.chmod(0o666)
            words = "writable by anybody (mode 0666), who could make root run anything: chmod go-w"
        case _:
            path = bench.directory / "bad\n.yaml"
            path.write_text(pod("bad"))
            words = "not printable"
    bench.write("good.yaml", pod("good"))
    await bench.start()
    await bench.until(lambda: words in bench.refusal(path.name))
    assert bench.commands() == {"good-n1": "true"}


async def test_a_directory_that_others_may_write_keeps_what_it_had(bench: Bench) -> None:
    bench.write("a.yaml", pod("a"))
    await bench.start()
    bench.directory.chmod(0o777)
    bench.write("b.yaml", pod("b"))
    await bench.until(lambda: "writable by anybody" in bench.refusal("manifests"))
    assert bench.commands() == {"a-n1": "true"}
    await bench.stop()
    await bench.start()
    assert bench.commands() == {"a-n1": "true"}
    bench.directory.chmod(0o755)
    await bench.until(lambda: len(bench.commands()) == 2)


async def test_one_file_may_be_the_source(bench: Bench) -> None:
    path = bench.directory / "pod"
    await bench.start(path=path)
    path.write_text(pod("a"))
    await bench.until(lambda: bool(bench.published) and bench.commands() == {"a-n1": "true"})
    path.write_text(pod("a", text="false"))
    await bench.until(lambda: bench.commands() == {"a-n1": "false"})
    path.unlink()
    await bench.until(lambda: not bench.commands())


async def test_hundreds_of_files_leave_turns_to_the_event_loop(bench: Bench) -> None:
    await bench.start()
    for number in range(300):
        bench.write(f"p{number}.yaml", pod(f"p{number}"))
    turns = []
    while len(bench.desired.pods) < 300:
        before = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - before)
    assert max(turns) < sum(turns) / 2  # of the loop's own processor time: a part of it, however slow the machine is
    assert len({one.pod.metadata.uid for one in bench.desired.pods}) == 300
