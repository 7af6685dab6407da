"""`validate`, `diff` and `explain` as a person and a script see them; no daemon, no root."""

from __future__ import annotations

import argparse
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.api.manifest import parse_manifest
from minikubelet.api.types import Pod
from minikubelet.cli import main
from minikubelet.cli.diff import Outcome, compare
from minikubelet.cli.host_checks import find_problems, missing_objects

GOOD = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: c
    image: x
    command: [sh]
"""


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minikubelet", *arguments], input=stdin, capture_output=True, text=True, check=False
    )


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_problems_have_place_line_caret_and_hint(tmp_path: Path) -> None:
    file = write(
        tmp_path, "a.yaml", GOOD.replace("command:", "Command:").replace("image: x", "imagePullPolicy: always")
    )
    done = run("validate", file)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f'{file}:8:5: warning: spec.containers[0].Command: unknown field, ignored: did you mean "command"?',
        "        Command: [sh]",
        "        ^",
        f"{file}:6:5: error: spec.containers[0].image: Required value",
        "      - name: c",
        "        ^",
        f'{file}:7:5: error: spec.containers[0].imagePullPolicy: Unsupported value: "always": supported values: '
        '"Always", "IfNotPresent", "Never" (did you mean "Always"?)',
        "        imagePullPolicy: always",
        "        ^",
    ]
    assert done.stderr == f"{file}: 2 errors, 1 warning\n"


def test_what_is_missing_names_the_misspelt_field_beside_it(tmp_path: Path) -> None:
    file = write(tmp_path, "a.yaml", GOOD.replace("image: x", "imgae: x"))
    assert (
        ': spec.containers[0].image: Required value (line 7 has "imgae" in its place)\n' in run("validate", file).stdout
    )


def test_a_tab_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "a.yaml", "kind: Pod\nmetadata:\n\tname: a\n")
    assert ": found character that cannot start any token (a tab: indent with spaces)\n" in run("validate", file).stdout


def test_a_command_in_one_text_is_taken_apart_where_no_shell_is_needed(tmp_path: Path) -> None:
    for wrong, meant in (("python3 -m http.server", '["python3", "-m", "http.server"]'), ("a | b", '["a | b"]')):
        file = write(tmp_path, "a.yaml", GOOD.replace("[sh]", wrong))
        assert f"(it is a list: write {meant})" in run("validate", file).stdout


def test_sizes_of_other_tools_name_the_likely_one(tmp_path: Path) -> None:
    for wrong, meant in (("10Gb", "10Gi"), ("64mib", "64Mi"), ("512K", "512Ki"), ("1 GB", "1Gi")):
        limits = f"command: [sh]\n    resources: {{limits: {{memory: {wrong}}}}}\n    #"
        file = write(tmp_path, "a.yaml", GOOD.replace("command:", limits))
        assert f'(did you mean "{meant}"?)' in run("validate", file).stdout


def test_json_is_one_list_with_these_keys(tmp_path: Path) -> None:
    bad = write(tmp_path, "b.yaml", GOOD + "---\n" + GOOD.replace("image: x", "").replace("web", "other"))
    good = write(tmp_path, "g.yaml", GOOD.replace("web", "third"))
    done = run("validate", "-o", "json", bad, good)
    assert done.returncode == 1
    assert json.loads(done.stdout) == [
        {
            "file": bad,
            "document": 1,
            "line": 15,
            "column": 5,
            "severity": "error",
            "field": "spec.containers[0].image",
            "message": "spec.containers[0].image: Required value",
        }
    ]
    assert run("validate", "-o", "json", good).stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD, 0),
        (GOOD.replace("spec:", "spec:\n  runtimeClassName: kata"), 0),  # right, if not honoured here
        (GOOD.replace("name: web", "name: UPPER"), 1),
        (GOOD.replace("image: x", "image: x\n    imgae: y"), 1),
        ("{", 1),
        ("", 1),
    ],
)
def test_exit_codes(text: str, code: int) -> None:
    assert run("validate", "-", stdin=text).returncode == code


def test_what_cannot_be_read_is_2_and_stops_nothing(tmp_path: Path) -> None:
    good = write(tmp_path, "g.yaml", GOOD)
    done = run("validate", str(tmp_path / "none.yaml"), good)
    assert done.returncode == 2
    assert "ok (1 pod)" in done.stdout
    assert "No such file or directory" in done.stderr


def test_a_directory_is_checked_as_the_daemon_reads_it(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", GOOD)
    write(tmp_path, "b.yml", GOOD)
    write(tmp_path, "c.bak", "{")
    write(tmp_path, ".d.yaml", "{")
    done = run("validate", str(tmp_path))
    assert done.returncode == 1
    assert "Pod default/web-" in done.stdout
    assert "already defined in" in done.stdout
    assert "c.bak" not in done.stdout


def test_strict_static_refuses_references() -> None:
    text = GOOD.replace("command:", "envFrom: [{configMapRef: {name: m}}]\n    command:")
    assert run("validate", "-", stdin=text).returncode == 0
    done = run("validate", "--strict-static", "-", stdin=text)
    assert done.returncode == 1
    assert "static pods may not reference configmaps" in done.stdout


def test_many_problems_are_counted_and_secrets_and_controls_not_shown(tmp_path: Path) -> None:
    many = write(tmp_path, "m.yaml", GOOD + "".join(f"field{n}: 1\n" for n in range(80)))
    assert ": 30 more are not shown" in run("validate", many).stdout
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: [hunter2]}\n"
    assert "hunter2" not in run("validate", "-", stdin=secret).stdout
    assert "\x1b" not in run("validate", "-", stdin='{"\\u001b[2J": 1, "\x7f": 2}').stdout


def test_they_import_little() -> None:
    code = (
        "import sys; sys.argv = ['minikubelet', 'validate', '-']; import minikubelet.cli.main as m; m.main();"
        "print([one for one in ('aiohttp', 'pyroute2', 'structlog', 'asyncio', 'psutil') if one in sys.modules])"
    )
    code = code.replace("m.main();", "\ntry:\n    m.main()\nexcept SystemExit:\n    pass\n")
    done = subprocess.run([sys.executable, "-c", code], input=GOOD, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_explain_shows_what_kubectl_shows_and_the_support() -> None:
    done = run("explain", "pod.spec.volumes")
    assert done.returncode == 0
    assert done.stdout.startswith("KIND:       Pod\nVERSION:    v1\n\nFIELD: volumes <[]Volume>\n\nDESCRIPTION:\n")
    assert "  nfs\t<NFSVolumeSource>" in done.stdout
    assert "Not honoured: it needs a cluster's storage" in done.stdout
    assert "      livenessProbe" not in run("explain", "pod").stdout
    assert "      livenessProbe\t<Probe>" in run("explain", "pod", "--recursive").stdout
    wrong = run("explain", "pod.spec.container")
    assert wrong.returncode == 1
    assert 'did you mean "pod.spec.containers"?' in wrong.stderr


# What the machine says


class FakeMachine:
    cpus = 2
    memory = 2**30

    def __init__(self, files: dict[str, int] | None = None, ports: dict[tuple[str, int], str] | None = None) -> None:
        self.files = files or {}
        self.ports = ports or {}

    def find_command(self, name: str, path: str) -> str:
        return "" if name in ("sh", "/bin/sh") else f'"{name}": not found'

    def has_user(self, uid: int) -> bool:
        return uid < 1000

    def mode_of(self, path: str) -> int | None:
        return self.files.get(path)

    def holder_of(self, protocol: str, address: str, port: int) -> str:
        return self.ports.get((protocol, port), "")


def pod_of(spec: str, container: str = "command: [sh]") -> Pod:
    containers = f"containers: [{{name: c, image: x, {container}}}]"
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{{spec} {containers}}}"
    manifest = parse_manifest(text.encode(), file="f", node_name="n")
    assert not manifest.errors, manifest.errors
    return manifest.pods[0].pod


@pytest.mark.parametrize(
    ("spec", "container", "field", "fails"),
    [
        ("", "command: [sh]", "", False),
        ("", "args: [sh]", "", False),
        ("", "workingDir: /", "spec.containers[0].command", True),
        ("", "command: [nope]", "spec.containers[0].command[0]", True),
        ("", "command: ['$(X)']", "", False),
        ("volumes: [{name: v}],", "command: [/v/x], volumeMounts: [{name: v, mountPath: /v}]", "", False),
        ("", "command: [sh], livenessProbe: {exec: {command: [nope]}}", "livenessProbe.exec.command[0]", False),
        ("", "command: [sh], livenessProbe: {httpGet: {port: web}}", "livenessProbe.httpGet.port", True),
        (
            "",
            "command: [sh], ports: [{containerPort: 1}], livenessProbe: {tcpSocket: {port: 2}}",
            "tcpSocket.port",
            False,
        ),
        ("", "command: [sh], livenessProbe: {tcpSocket: {port: 2}}", "", False),
        ("", "command: [sh], livenessProbe: {tcpSocket: {port: 2}, timeoutSeconds: 11}", "timeoutSeconds", False),
        ("", "command: [sh], securityContext: {runAsUser: 5000}", "securityContext.runAsUser", False),
        ("securityContext: {runAsNonRoot: true},", "command: [sh]", "runAsNonRoot", True),
        ("securityContext: {runAsNonRoot: true, runAsUser: 5},", "command: [sh]", "", False),
        ("", "command: [sh], resources: {limits: {cpu: 3}}", "resources.limits[cpu]", False),
        ("", "command: [sh], resources: {requests: {memory: 2Gi}}", "resources.requests[memory]", False),
        ("", "command: [sh], ports: [{containerPort: 1, hostPort: 80}]", "ports[0].hostPort", True),
        ("", "command: [sh], ports: [{containerPort: 1, hostPort: 80, protocol: UDP}]", "", False),
        ("hostNetwork: true,", "command: [sh], ports: [{containerPort: 80}]", "ports[0].hostPort", True),
        ("volumes: [{name: v, hostPath: {path: /d}}],", "command: [sh]", "", False),
        ("volumes: [{name: v, hostPath: {path: /d, type: File}}],", "command: [sh]", "hostPath.path", True),
        ("volumes: [{name: v, hostPath: {path: /no}}],", "command: [sh]", "hostPath.path", False),
        ("volumes: [{name: v, hostPath: {path: /no, type: Directory}}],", "command: [sh]", "hostPath.path", True),
        ("volumes: [{name: v, hostPath: {path: /no, type: DirectoryOrCreate}}],", "command: [sh]", "", False),
        ("volumes: [{name: v, hostPath: {path: /no/f, type: FileOrCreate}}],", "command: [sh]", "hostPath.path", True),
        ("", "command: [sh], lifecycle: {preStop: {sleep: {seconds: 30}}}", "preStop.sleep.seconds", False),
    ],
)
def test_what_the_machine_tells(spec: str, container: str, field: str, fails: bool) -> None:
    machine = FakeMachine({"/d": stat.S_IFDIR}, {("TCP", 80): "nginx (pid 1)"})
    found = find_problems(pod_of(spec, container), machine)
    assert [(one.field.endswith(field), one.fails) for one in found] == ([(True, fails)] if field else [])


def test_objects_that_nobody_defines_are_named() -> None:
    pod = pod_of(
        "volumes: [{name: v, secret: {secretName: s}}, {name: o, configMap: {name: x, optional: true}}],",
        "command: [sh], envFrom: [{configMapRef: {name: m}}]",
    )
    assert [one.field for one in missing_objects(pod, {("default", "m")}, set())] == ["spec.volumes[0].secret"]
    assert not list(missing_objects(pod, {("default", "m")}, {("default", "s")}))


# What an edit does


def as_running(text: str) -> dict[str, Any]:
    pod = parse_manifest(text.encode(), file="f", node_name="n", seen_at="2026-01-01T00:00:00Z").pods[0].pod
    running: dict[str, Any] = json.loads(msgspec.json.encode(pod))
    return running


UID = GOOD.replace("name: web", "name: web, uid: fixed, labels: {a: b}")


@pytest.mark.parametrize(
    ("old", "new", "outcome", "paths"),
    [
        (GOOD, GOOD, Outcome.NOTHING, []),
        (GOOD, "# a comment\n" + GOOD, Outcome.NOTHING, []),
        (GOOD, GOOD.replace("image: x", "image: x:latest\n    imagePullPolicy: Always"), Outcome.REPLACED, None),
        (GOOD, GOOD.replace("[sh]", "[sh, -c]"), Outcome.REPLACED, ["spec.containers[c].command[1]"]),
        (GOOD, GOOD + "  - {name: d, image: z}\n", Outcome.REPLACED, ["spec.containers[d]"]),
        (UID, UID.replace("a: b", "a: c"), Outcome.UPDATED, ["metadata.labels.a"]),
        (UID, UID.replace("[sh]", "[ls]"), Outcome.RESTARTED, ["spec.containers[c].command[0]"]),
    ],
)
def test_what_an_edit_does(old: str, new: str, outcome: Outcome, paths: list[str] | None) -> None:
    wanted = parse_manifest(new.encode(), file="f", node_name="n").pods[0].pod
    found, changes = compare(as_running(old), wanted)
    assert found is outcome
    if paths is not None:
        assert [one.path for one in changes] == paths


def test_a_pod_that_does_not_run_is_new() -> None:
    wanted = parse_manifest(GOOD.encode(), file="f", node_name="n").pods[0].pod
    assert compare(None, wanted) == (Outcome.CREATED, [])


def test_verbs_declare_their_arguments() -> None:
    for verb in ("validate", "diff", "explain", "schema"):
        assert isinstance(main.verb_parser(verb), argparse.ArgumentParser)
