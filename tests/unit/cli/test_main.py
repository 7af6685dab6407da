"""Verbs and flags: what is understood, what is likely meant, what is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minikubelet.cli import main as command_line

HEAVY = (
    "msgspec",
    "yaml",
    "aiohttp",
    "structlog",
    "pyroute2",
    "psutil",
    "watchdog",
    "prometheus_client",
    "asyncio",
    "rich",
)


@pytest.mark.parametrize("verb", sorted(command_line.verbs()))
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main([verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: minikubelet {verb}" in text
    assert "--run-dir" in text


def test_overview_names_every_verb(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for verb in command_line.verbs():
        assert f"\n  {verb} " in text


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["gte", "pods"], 'unknown verb "gte", did you mean "get"?'),
        (["describ"], 'unknown verb "describ", did you mean "describe"?'),
        (["get", "pdos"], 'no such kind: "pdos", did you mean "pods"?'),
    ],
)
def test_likely_meant_words_are_named(arguments, hint, capsys):
    assert command_line.main(arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["get", "pods", "--wach"], 'unrecognized arguments: --wach, did you mean "--watch"?'),
        (["get", "pods", "-o", "jsn"], 'did you mean "json"?'),
        (["logs", "web", "--since", "5x"], '"5x" is not a duration such as 90s, 5m or 1h30m'),
        (["logs", "web", "--since-time", "yesterday"], "is not a time in RFC 3339"),
        (["wait", "web", "--for", "foo"], '"foo" is not one of condition=NAME[=VALUE]'),
        (["get"], "required: KIND (pods, events, nodes, namespaces, configmaps or secrets, or KIND/NAME)\n"),
        (["explain"], "required: KIND[.FIELD...] (such as pod.spec.containers.livenessProbe)\n"),
        (["wait", "web"], "arguments are required: --for ("),
    ],
)
def test_wrong_flags_end_with_2_and_a_hint(arguments, hint, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)
    assert ended.value.code == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["-n", "other", "get", "pods", "web"],
        ["get", "pods", "-n", "other", "web"],
        ["get", "-n=other", "pods", "web"],
        ["get", "pods", "web", "--namespace=other"],
        ["--run-dir", "/r", "get", "pods", "web", "-nother"],
    ],
)
def test_flags_stand_anywhere(arguments):
    _, options = command_line.parse(arguments)
    assert (options.kind, options.names, options.namespace) == ("pods", ["web"], "other")


@pytest.mark.parametrize(
    ("arguments", "follow", "prefix"),
    [
        (["logs", "web"], False, None),
        (["logs", "web", "-f", "--prefix"], True, True),
        (["logs", "web", "--follow=true", "--prefix=false"], True, False),
        (["logs", "web", "--follow=false"], False, None),
    ],
)
def test_booleans_may_be_written_out(arguments, follow, prefix):
    _, options = command_line.parse(arguments)
    assert (options.follow, options.prefix) == (follow, prefix)


def test_what_stands_behind_dashes_is_the_command():
    _, options = command_line.parse(["exec", "-it", "web", "--", "ls", "-l", "--", "x"])
    assert options.command == ["ls", "-l", "--", "x"]
    assert (options.pod, options.stdin, options.tty) == ("web", True, True)


def test_exec_without_dashes_says_how(capsys):
    assert command_line.main(["exec", "web", "ls"]) == 2
    assert "minikubelet exec web -- ls" in capsys.readouterr().err


def test_roots_are_taken_from_the_environment(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MINIKUBELET_RUN_DIR", str(tmp_path))
    assert command_line.main(["get", "pods"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_unexpected_errors_show_no_traceback(monkeypatch, capsys):
    def fail(options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("minikubelet.cli.version.execute", fail)
    monkeypatch.delenv("MINIKUBELET_DEBUG", raising=False)
    assert command_line.main(["version"]) == 1
    error = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: oops" in error
    assert "Traceback" not in error


def test_interrupt_ends_with_130(monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minikubelet.cli.version.execute", interrupted)
    assert command_line.main(["version"]) == 130


@pytest.mark.parametrize(
    "arguments", [["--help"], ["get", "--help"], ["get", "pods"], ["logs", "web"], ["why", "web"], ["names", "pods"]]
)
def test_often_used_verbs_import_nothing_heavy(arguments, tmp_path):
    program = (
        "import sys\nfrom minikubelet.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('\\nMODULES ' + ' '.join(sys.modules))"
    )
    roots = [f"--run-dir={tmp_path}", f"--state-dir={tmp_path}"] if arguments[0] != "--help" else []
    command = [sys.executable, "-c", program, *arguments, *roots]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    loaded = set(done.stderr.rpartition("MODULES ")[2].split())
    assert "minikubelet.cli.main" in loaded
    assert [one for one in HEAVY if one in loaded] == []
    assert "minikubelet.daemon" not in loaded


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    command = f"{sys.executable} -m minikubelet schema | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stderr == ""


def test_what_is_no_text_is_printed_all_the_same(tmp_path):
    status = tmp_path / "status"
    status.mkdir()
    (status / "default_web-n1.json").write_text(
        '{"metadata": {"name": "web-n1", "namespace": "default"}, "spec": {"containers": []}, '
        '"status": {"phase": "\\ud800odd\\u001b[2J"}}'
    )
    command = [sys.executable, "-m", "minikubelet", "get", "pods", f"--run-dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "\\ud800odd\\x1b[2J" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["delete", "pod", "web"], "taking its manifest out of /etc/minikubelet/manifests"),
        (["--config-dir=/x", "apply", "-f", "y"], "put the file into /x/manifests"),
        (["restart", "web"], "be it an annotation"),
        (["proxy"], "minikubelet kubeconfig"),
        (["lgos"], 'did you mean "logs"?'),
        (["nonsense"], "see 'minikubelet --help'"),
        (["--run-dir", "/x"], "the verb is missing behind /x"),
        (["get", "web"], "pod/web"),
        (["logs", "web", "--tail=few"], '"few" is not a whole number'),
        (["logs", "web", "--tail=-2"], "--tail must be greater than or equal to -1"),
        (["logs", "web", "--since=-5s"], "--since must be greater than 0"),
        (["logs", "web", "--since=5s", "--since-time=2026-01-01T00:00:00Z"], "at most one of `sinceTime` or"),
    ],
)
def test_what_is_not_there_names_the_next_step(arguments, words, capsys, monkeypatch):
    monkeypatch.delenv("MINIKUBELET_CONFIG_DIR", raising=False)
    try:
        code = command_line.main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    told = capsys.readouterr().err
    assert words in told
    assert "usage:" not in told
