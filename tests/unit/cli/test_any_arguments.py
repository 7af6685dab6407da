"""Whatever is typed: an exit code that is documented, a message that names a next step, and never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minikubelet.cli import main as command_line
from minikubelet.cli.main import EARLY, parsers_flags, verb_parser, verbs

# What these do beyond parsing is not for a test without a machine of its own.
ONLY_PARSED = {"run", "drain", "uncordon", "doctor", "debug", "wait"}
FLAGS = sorted({flag for verb in verbs() for flag, _ in parsers_flags(verb_parser(verb), short=True)})
WORDS = st.text(st.sampled_from("aé-=:,[]{}'\"\\ %\n\x00\x1b0123456789xpod"), max_size=8)
TYPICAL = ["pods", "pod/web", "web", "node", "json", "5s", "-1", "jsonpath={", "custom-columns=", "custom-columns=A:.b"]
TYPICAL += [
    "jsonpath={.a",
    "a:b",
    ":",
    "8080:80",
    "true",
    "=",
    "--",
    "pod.spec.",
    "2026-01-01T00:00:00Z",
    "a in (b",
    "x=y",
]
ARGUMENT = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(TYPICAL),
    WORDS,
    st.builds(lambda flag, value: f"{flag}={value}", st.sampled_from(FLAGS), st.sampled_from(TYPICAL) | WORDS),
)


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    """Roots where no daemon is."""
    base = tmp_path_factory.mktemp("nowhere")
    before = dict(os.environ), os.getcwd()
    os.environ |= {f"MINIKUBELET_{name.upper()}": str(base / name) for name in command_line.ROOTS}
    os.chdir(base)
    yield
    os.chdir(before[1])
    os.environ.clear()
    os.environ.update(before[0])


def outcome(arguments: Sequence[str]) -> tuple[int, str]:
    """Return the exit code and what is said on stderr."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        try:
            module, options = command_line.parse(arguments)
            follows = any(getattr(options, name, False) for name in ("follow", "watch", "watch_only"))
            if follows or options.verb in ONLY_PARSED:
                return 0, ""
            del module
            code = command_line.main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except command_line.CommandFailed as failure:
            code, _ = failure.code, told.write(str(failure))
    return code, told.getvalue()


@given(
    verb=st.sampled_from([*verbs(), "complete", "help", "--version", *EARLY]) | WORDS,
    rest=st.lists(ARGUMENT, max_size=5),
)
@example(verb="get", rest=["pods", "-o", "jsonpath={.items[?(@.a"])
@example(verb="logs", rest=["web", "--tail=x"])
@example(verb="explain", rest=["pod..spec"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_arguments_end_with_a_documented_code(nowhere, verb, rest):
    if verb in ("get", "validate", "diff", "cp") and "/" in "".join(rest):
        rest = [one.replace("/", "") for one in rest]
    code, told = outcome([verb, *rest])
    assert code in (0, 1, 2), (code, told)
    assert "Traceback" not in told
    assert "internal error" not in told
    if code == 2:
        assert told.strip(), "a wrong usage is told"
