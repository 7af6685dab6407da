"""`diff` against a live daemon, and the event about fields that are not honoured."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.root

POD = """
apiVersion: v1
kind: Pod
metadata: {name: differs, labels: {app: a}}
spec:
  terminationGracePeriodSeconds: 1
  runtimeClassName: kata
  containers:
  - {name: main, image: host, command: [sleep, '1000']}
"""


def test_diff_says_what_an_edit_changes(cluster, tmp_path):
    cluster.write("differs.yaml", POD)
    assert cluster.cli("wait", "--for=condition=Ready", "differs").returncode == 0
    told = cluster.cli("get", "events").stdout
    assert "FieldNotHonoured" in told
    assert "spec.runtimeClassName: not honoured on this node" in told

    def diff(text):
        file = tmp_path / "edit.yaml"
        file.write_text(text)
        done = cluster.cli("diff", str(file))
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert diff(POD) == (0, "pod default/differs-n1: no change\n")
    code, told = diff(POD.replace("'1000'", "'2000'"))
    assert code == 1
    assert "pod default/differs-n1: is replaced" in told
    assert '~ spec.containers[main].command[1]: "1000" -> "2000"' in told
    assert "gets a new uid" in told
    code, told = diff(POD.replace("name: differs", "name: other"))
    assert (code, "pod default/other-n1: is new" in told) == (1, True)
    code, told = diff(POD.replace("image: host, ", ""))
    assert code == 2
    assert "spec.containers[0].image: Required value" in told
    assert "the last good version goes on" in told
