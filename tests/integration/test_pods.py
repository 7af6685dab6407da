"""Pods from manifest to end, with a real daemon and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def manifest(name: str, command: str, *, more: str = "", policy: str = "Always", grace: int = 1) -> str:
    """Return a pod of one container that runs a shell command."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: {grace}
  {more}
  containers:
  - name: main
    image: host
    command: [sh, -c, {command!r}]
"""


def phase(expected: str):
    return lambda pod: pod["status"]["phase"] == expected


def first(pod):
    return pod["status"]["containerStatuses"][0]


def test_one_shot_pod_succeeds_and_stays_listed(node):
    node.write("job.yaml", manifest("job", "echo hello; echo oops >&2", policy="Never"))
    pod = node.wait_pod("job", phase("Succeeded"), "Succeeded")
    ended = first(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    log = node.log(pod, "main")
    assert " stdout F hello\n" in log
    assert " stderr F oops\n" in log
    (node.manifests / "job.yaml").unlink()
    node.wait(lambda: node.pod("job") is None, "the pod to be gone")
    assert list((node.state_dir / "pods").iterdir()) == []


def test_failing_pod_with_policy_never_fails(node):
    node.write("bad.yaml", manifest("bad", "exit 7", policy="Never"))
    pod = node.wait_pod("bad", phase("Failed"), "Failed")
    assert first(pod)["state"]["terminated"]["exitCode"] == 7
    assert first(pod)["state"]["terminated"]["reason"] == "Error"


def test_crashing_pod_restarts_at_once_then_backs_off(node):
    node.write("crash.yaml", manifest("crash", "exit 3"))
    pod = node.wait_pod(
        "crash", lambda p: first(p)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "back-off"
    )
    assert first(pod)["restartCount"] == 1
    waiting = first(pod)["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"].startswith("back-off 10s restarting failed container=main pod=crash-n1_default(")
    assert first(pod)["lastState"]["terminated"]["exitCode"] == 3
    assert pod["status"]["phase"] == "Running"


def test_missing_command_is_start_error(node):
    text = manifest("none", "true").replace("[sh, -c, 'true']", "[no-such-program]")
    node.write("none.yaml", text)
    pod = node.wait_pod("none", lambda p: "terminated" in first(p)["lastState"], "a failed start")
    ended = first(pod)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["startedAt"]) == (128, "StartError", "1970-01-01T00:00:00Z")
    assert 'exec: "no-such-program": executable file not found in $PATH' in ended["message"]


def test_program_that_cannot_be_executed_has_started_and_says_why(node):
    """As under runc: the command is there, so the container starts; what the kernel says of it is in its log."""
    programs = node.base / "programs"
    programs.mkdir()
    for name, text in (("no-format", "echo x\n"), ("no-interpreter", "#!/no/such/shell\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
        command = manifest(name, "true", policy="Never").replace("[sh, -c, 'true']", f"[{programs / name}]")
        mount = f"\n    volumeMounts: [{{name: p, mountPath: {programs}}}]"
        node.write(
            f"{name}.yaml", f"{command.rstrip()}{mount}\n  volumes: [{{name: p, hostPath: {{path: {programs}}}}}]\n"
        )
    for name, why in (("no-format", "exec format error"), ("no-interpreter", "no such file or directory")):
        pod = node.wait_pod(name, phase("Failed"), "Failed")
        ended = first(pod)["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (255, "Error")
        assert node.output(pod) == f"exec {programs / name}: {why}\n"


@pytest.mark.parametrize(("uid", "more"), [(0, ""), (1234, ""), (0, "hostUsers: false"), (1234, "hostUsers: false")])
def test_programs_open_their_streams_again(node, uid, more):
    """As with runc, the pipes belong to the container's user: many a program is told to log to /dev/stdout."""
    say = "echo out >/dev/stdout; echo err >>/dev/stderr; echo first >/proc/1/fd/1"
    text = manifest("streams", f"{say}; sleep 1000", more=more)
    node.write("streams.yaml", f"{text.rstrip()}\n    securityContext: {{runAsUser: {uid}}}\n")
    pod = node.wait_pod("streams", lambda p: "running" in first(p)["state"], "running")
    node.wait(lambda: sorted(node.output(pod).split()) == ["err", "first", "out"], "what was written")
    command = [sys.executable, "-m", "minikubelet", "exec", *node.roots, "streams", "--", "sh", "-c"]
    again = subprocess.run(
        [*command, "echo out >/dev/stdout; echo err >/dev/stderr"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (again.stdout, again.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("more", ["", "hostUsers: false"])
@pytest.mark.parametrize("context", ["runAsUser: 1234", "privileged: true"])
def test_terminal_is_the_containers_console(node, more, context):
    text = manifest("tty", "tty && echo told >/dev/console && test -c /dev/console", policy="Never", more=more)
    node.write("tty.yaml", f"{text.rstrip()}\n    tty: true\n    securityContext: {{{context}}}\n")
    pod = node.wait_pod("tty", phase("Succeeded"), "Succeeded")
    assert node.output(pod).split() == ["/dev/pts/0", "told"]


@pytest.mark.parametrize(
    ("directory", "code", "expected"),
    [
        ("/root", 0, "/root 1234\n"),  # entered as the container's root, as by runc; its user may not
        ("/etc/passwd", 128, 'chdir to cwd ("/etc/passwd") set in config.json failed: not a directory'),
        ("made/at/once", 128, "Cwd must be an absolute path"),
    ],
)
def test_working_directory(node, directory, code, expected):
    more = f"securityContext: {{runAsUser: 1234}}\n    workingDir: {directory}"
    text = manifest("cwd", 'echo "$(readlink /proc/self/cwd) $(id -u)"', policy="Never")
    node.write("cwd.yaml", f"{text.rstrip()}\n    {more}\n")
    pod = node.wait_pod("cwd", lambda p: "terminated" in first(p)["state"], "its end")
    ended = first(pod)["state"]["terminated"]
    assert ended["exitCode"] == code
    assert expected in (ended["message"] if code else node.output(pod))


def test_init_containers_run_in_order_before_the_app(node):
    init = (
        "volumes: [{name: d, emptyDir: {}}]\n  initContainers:\n"
        "  - {name: one, image: host, command: [sh, -c, 'echo one >> /d/f'], volumeMounts: "
        "[&d {name: d, mountPath: /d}]}\n"
        "  - {name: two, image: host, command: [sh, -c, 'echo two >> /d/f'], volumeMounts: [*d]}"
    )
    text = manifest("order", "cat /d/f; sleep 100", more=init)
    node.write("order.yaml", text + "    volumeMounts: [{name: d, mountPath: /d}]\n")
    pod = node.wait_pod("order", phase("Running"), "Running")
    node.wait(lambda: "F two" in node.log(pod, "main"), "the app's output")
    assert [line.rsplit(" ", 1)[1] for line in node.log(pod, "main").splitlines()] == ["one", "two"]
    conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    assert conditions["Initialized"] == "True"


def test_failing_init_container_fails_the_pod_under_never(node):
    init = "initContainers:\n  - {name: bad, image: host, command: ['false']}"
    node.write("init.yaml", manifest("init", "true", more=init, policy="Never"))
    pod = node.wait_pod("init", phase("Failed"), "Failed")
    assert first(pod)["state"]["waiting"]["reason"] == "PodInitializing"


def test_edit_replaces_the_pod_and_the_old_one_ends_first(node):
    node.write("web.yaml", manifest("web", "trap 'exit 0' TERM; echo old; sleep 1000 & wait"))
    old = node.wait_pod("web", phase("Running"), "Running")
    node.write("web.yaml", manifest("web", "echo new; sleep 1000"))
    new = node.wait_pod(
        "web",
        lambda p: p["metadata"]["uid"] != old["metadata"]["uid"] and p["status"]["phase"] == "Running",
        "the new version",
    )
    assert first(new)["restartCount"] == 0
    assert not (node.state_dir / "pods" / old["metadata"]["uid"]).exists()


def test_bad_edit_keeps_the_last_good_version(node):
    node.write("web.yaml", manifest("web", "sleep 1000"))
    good = node.wait_pod("web", phase("Running"), "Running")
    node.write("web.yaml", manifest("web", "sleep 1000").replace("image: host", "image: ''"))
    verdict = node.run_dir / "manifests" / "web.yaml.txt"
    node.wait(lambda: "refused" in verdict.read_text(), "the verdict")
    assert "spec.containers[0].image: Required value" in verdict.read_text()
    assert "last good version" in verdict.read_text()
    assert node.pod("web")["metadata"]["uid"] == good["metadata"]["uid"]


def test_file_that_others_may_write_is_refused(node):
    beside = node.manifests / ".open"
    beside.write_text(manifest("open", "sleep 1000"))
    os.chmod(beside, 0o666)
    beside.rename(node.manifests / "open.yaml")
    verdict = node.run_dir / "manifests" / "open.yaml.txt"
    node.wait(lambda: verdict.exists() and "refused" in verdict.read_text(), "the verdict")
    assert "writable by anybody" in verdict.read_text()
    assert node.pod("open") is None


def test_daemon_killed_and_restarted_touches_no_container(node):
    node.write("web.yaml", manifest("web", "sleep 1000"))
    before = node.wait_pod("web", phase("Running"), "Running")
    node.kill()
    node.start()
    after = node.wait_pod("web", phase("Running"), "Running")
    assert first(after)["containerID"] == first(before)["containerID"]
    assert first(after)["restartCount"] == 0
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert after["status"]["conditions"] == before["status"]["conditions"]


def test_manifest_removed_while_the_daemon_is_down_ends_the_pod(node):
    node.write("web.yaml", manifest("web", "sleep 1000"))
    node.wait_pod("web", phase("Running"), "Running")
    node.kill()
    (node.manifests / "web.yaml").unlink()
    node.start()
    node.wait(lambda: node.pod("web") is None, "the pod to be gone")
    node.wait(lambda: not list((node.state_dir / "pods").iterdir()), "its state to be gone")


def pause_pid(uid: str) -> int:
    """Return the pid of a pod's pause by the title it gave itself."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"minikubelet: pause default/"):
                maps = os.listdir(entry / "fd")
                links = [os.readlink(entry / "fd" / one) for one in maps]
                if any(uid in link for link in links):
                    return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no pause")


def test_killed_pause_takes_its_containers_and_is_made_anew(node):
    node.write("web.yaml", manifest("web", "sleep 1000"))
    before = node.wait_pod("web", phase("Running"), "Running")
    os.kill(pause_pid(before["metadata"]["uid"]), signal.SIGKILL)
    after = node.wait_pod(
        "web",
        lambda p: (
            first(p).get("containerID") != first(before)["containerID"]
            and p["status"]["phase"] == "Running"
            and "running" in first(p)["state"]
        ),
        "a new container",
    )
    assert first(after)["restartCount"] == 1
    events = node.cli("get", "events").stdout
    assert "SandboxChanged" in events


def test_readiness_follows_the_probe_and_liveness_restarts(node):
    text = manifest("probed", "rm -f /tmp/ok; touch /tmp/ok; sleep 1000") + (
        "    readinessProbe: {exec: {command: [test, -f, /tmp/ok]}, periodSeconds: 1}\n"
        "    livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 3}\n"
    )
    node.write("probed.yaml", text)
    node.wait_pod("probed", lambda p: first(p)["ready"], "ready")
    node.wait_pod("probed", lambda p: first(p)["restartCount"] >= 1, "a restart")
    events = node.cli("get", "events").stdout
    assert "Container main failed liveness probe, will be restarted" in events


def test_hundred_files_at_once(node):
    for number in range(40):
        node.write(f"p{number}.yaml", manifest(f"p{number}", "sleep 1000"))
    for number in range(40):
        node.wait_pod(f"p{number}", phase("Running"), f"p{number} Running", 60)
    ips = {node.pod(f"p{number}")["status"]["podIP"] for number in range(40)}
    assert len(ips) == 40


def test_command_line_shows_and_prints(node):
    node.write("web.yaml", manifest("web", "echo hello; sleep 1000"))
    pod = node.wait_pod("web", phase("Running"), "Running")
    node.wait(lambda: "hello" in node.log(pod, "main"), "output")
    table = node.cli("get", "pods", "-A", "-o", "wide").stdout
    assert "web-n1" in table
    assert "Running" in table
    assert node.cli("logs", "web").stdout == "hello\n"
    node.wait(lambda: "web-n1" in (node.run_dir / "status.txt").read_text(), "the table")
    missing = node.cli("logs", "nope")
    assert missing.returncode == 1
    assert 'pods "nope" not found' in missing.stderr


def test_directory_that_others_may_write_changes_nothing(node):
    node.write("web.yaml", manifest("web", "sleep 1000"))
    before = node.wait_pod("web", phase("Running"), "Running")
    os.chmod(node.manifests, 0o777)
    node.write("other.yaml", manifest("other", "sleep 1000"))
    log = node.base / "daemon.log"
    node.wait(lambda: "its pods go on as they were" in log.read_text(), "the warning")
    assert node.pod("other") is None
    assert node.pod("web")["metadata"]["uid"] == before["metadata"]["uid"]
    os.chmod(node.manifests, 0o755)
    (node.manifests / ".touched").touch()
    node.wait_pod("other", phase("Running"), "the other pod once the directory is mended")
