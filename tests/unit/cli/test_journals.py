"""The journal of a pod, as the command line reads it."""

from __future__ import annotations

import json

import pytest

from minikubelet.cli import journals


def test_records_are_merged_and_torn_lines_passed_over(tmp_path):
    directory = tmp_path / "pods" / "u1"
    directory.mkdir(parents=True)
    records = [
        {"do": "sandbox", "id": "s1", "state": {"pid": 7}},
        {"do": "container", "id": "c1", "state": {"name": "main", "pid": 8, "started_at": 1_800_000_000.5}},
        {
            "do": "container",
            "id": "c1",
            "state": {
                "state": "exited",
                "exit": {
                    "exit_code": 137,
                    "reason": "OOMKilled",
                    "finished_at": 1_800_000_009,
                    "memory_peak": 67108864,
                },
            },
        },
        {"do": "sandbox", "id": "s2", "state": {"pid": 9}},
        {"do": "remove", "id": "c0"},
    ]
    text = "\n".join(json.dumps(one) for one in records)
    (directory / "journal.jsonl").write_text(f"[]\n{text}\n" + '{"do": "contai')
    sandbox, containers = journals.read(str(tmp_path), "u1")
    assert sandbox == {"pid": 9}
    assert containers["c1"]["pid"] == 8
    assert journals.instances(str(tmp_path), "u1") == [
        {
            "id": "c1",
            "container": "main",
            "restartCount": 0,
            "state": "exited",
            "startedAt": "2027-01-15T08:00:00.500000Z",
            "exit": {
                "exitCode": 137,
                "signal": 0,
                "reason": "OOMKilled",
                "message": "",
                "finishedAt": "2027-01-15T08:00:09.000000Z",
                "memoryPeakBytes": 67108864,
            },
        }
    ]


def test_no_journal(tmp_path):
    assert journals.instances(str(tmp_path), "u1") == []
    with pytest.raises(OSError):
        journals.read(str(tmp_path), "u1")
