"""Versions, labels and differences from the shell, against a real service."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.cli.main import main
from dbp.errors import CorruptParameters
from tests.cli.setups import Server, output, run, start, write_spec
from tests.deadline import DEADLINE


def json_of(*arguments: str, service: str) -> Any:
    return json.loads(output(*arguments, "--output", "json", service=service))


@pytest.fixture
def running(service: str, tmp_path: Path) -> Iterator[str]:
    """A job that trains, with at least one version, and keeps more than a test can ask for."""
    spec = write_spec(tmp_path / "endless.toml", name="endless", steps=10**9)
    spec.write_text(spec.read_text() + "keep = 5000\n")
    job = output("submit", str(spec), service=service).strip()
    output("params", job, "--wait", "30", service=service)
    yield job
    output("cancel", job, "--force", service=service)
    run("watch", job, service=service)


def test_labels_and_pins_of_a_running_job(service: str, running: str) -> None:
    first = json_of("params", "publish", running, service=service)["version"]
    assert "stable" in output("params", "label", running, "stable", str(first), service=service)
    second = json_of("params", "publish", running, service=service)["version"]
    pinned = json_of("params", "pin", running, str(second), service=service)
    assert pinned["pinned"]

    entries = {
        entry["version"]: entry
        for entry in json_of("params", "versions", running, "--limit", "1000", service=service)
    }
    assert entries[first]["kept"]
    assert "stable" in entries[first]["labels"]
    assert entries[second]["kept"]
    found = json_of("params", running, "--label", "stable", service=service)
    assert found["version"] == first
    assert json_of("params", running, "--step", str(found["step"]), service=service) == found
    labels = {
        row["label"]: row["version"]
        for row in json_of("params", "labels", running, service=service)
    }
    assert labels["stable"] == first
    output("params", "label", running, "stable", "--remove", service=service)
    typo = run("params", running, "--version", "lates", service=service)
    assert typo.returncode == 4
    assert "no label 'lates', did you mean 'latest'? labels: " in typo.stderr
    output("params", "unpin", running, str(second), service=service)
    history = output("params", "labels", running, "--history", service=service)
    assert history.count("stable") == 2
    lost = run("params", running, "--label", "stable", service=service)
    assert lost.returncode == 4
    assert "stable" in lost.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["label", "JOB", "stable"], "name a version, --undo the last move, or --remove"),
        (["label", "JOB", "stable", "1", "--undo"], "name a version, --undo"),
        (["label", "JOB", "stable", "Latest"], "a number, latest, a label such as best"),
        (["label", "JOB", "stable", "0"], "count from 1"),
        (["pin", "JOB", "step:"], "expected step:N"),
        (["label", "JOB", "best", "1"], "moved by the run itself"),
        (["label", "JOB", "Bad Name", "1"], "lower-case letters"),
        (["diff", "JOB", "step:x"], "expected step:N"),
        (["diff", "JOB", "0"], "count from 1"),
        (["JOB", "--watch", "--version", "1"], "--watch"),
        (["JOB", "--watch", "--wait", "1"], "leave out --wait"),
        (["JOB", "--cast", "f8"], "f16"),
        (["JOB", "--version", "1", "--label", "best"], "only one"),
    ],
)
def test_bad_input_is_named(service: str, ended: str, arguments: list[str], words: str) -> None:
    done = run("params", *[ended if a == "JOB" else a for a in arguments], service=service)

    assert done.returncode == 2, done
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_may_be_latest_a_label_or_a_step(service: str, running: str) -> None:
    def label(*arguments: str) -> Any:
        return json_of("params", "label", running, *arguments, service=service)

    first = label("stable", "latest")
    later = json_of("params", "publish", running, service=service)
    moved = label("stable", f"step:{later['step']}")
    assert (moved["version"], moved["previous"]) == (later["version"], first["version"])
    assert label("copy", "stable")["version"] == later["version"]
    assert (
        json_of("params", running, "--version", "stable", service=service)["step"]
        == (later["step"])
    )
    pinned = json_of("params", "pin", running, "copy", service=service)
    assert (pinned["version"], pinned["pinned"]) == (later["version"], True)
    text = output("params", "unpin", running, "stable", service=service)
    assert text == f"version {later['version']}: kept\n"
    same = json_of("params", "diff", running, "stable", "copy", service=service)
    assert same["a"] == same["b"]


def test_a_label_is_moved_back(service: str, running: str) -> None:
    first = json_of("params", "label", running, "stable", "latest", service=service)["version"]
    json_of("params", "publish", running, service=service)
    second = json_of("params", "label", running, "stable", "latest", service=service)["version"]

    back = output("params", "label", running, "stable", "--undo", service=service)
    entries = output("params", "versions", running, "--limit", "9999", service=service)
    forward = json_of("params", "label", running, "stable", "--undo", service=service)
    removed = output("params", "label", running, "stable", "--remove", service=service)

    assert back == f"stable: version {first}, before: version {second} (kept for --undo)\n"
    rows = {line.split()[0]: line for line in entries.splitlines()}
    assert rows[str(first)].endswith("stable")
    assert rows[str(second)].endswith("was stable")
    assert (forward["version"], forward["previous"]) == (second, first)
    assert removed == f"stable: removed, before: version {second} (kept for --undo)\n"
    assert (
        output("params", "labels", running, "--history", service=service).count("stable") == 5
    )


def test_a_cut_list_of_versions_says_so(service: str, running: str) -> None:
    json_of("params", "publish", running, service=service)

    for more in ([], ["--output", "json"]):
        done = run("params", "versions", running, "--limit", "1", *more, service=service)
        assert done.stderr == "note: 1 version shown, newest first; there are more: --limit 2\n"
    whole = run("params", "versions", running, "--limit", "9999", service=service)
    assert whole.stderr == ""


def test_diff_shows_the_changes_between_two_versions(
    service: str, ended: str, tmp_path: Path
) -> None:
    kept = [
        entry["version"]
        for entry in json_of("params", "versions", ended, service=service)
        if entry["kept"]
    ]
    oldest, newest = str(kept[-1]), str(kept[0])
    files = {}
    for version in (oldest, newest):
        files[version] = tmp_path / f"{version}.safetensors"
        output(
            "params", ended, "--version", version, "-o", str(files[version]), service=service
        )

    found = json_of("params", "diff", ended, oldest, newest, service=service)
    text = output("params", "diff", ended, oldest, service=service)

    a, b = load_file(files[oldest]), load_file(files[newest])
    rows = {row["name"]: row for row in found["tensors"]}
    assert list(rows)[-3:] == ["all weights", "all biases", "all"]
    for name in a:
        x, y = a[name].astype(np.float64).ravel(), b[name].astype(np.float64).ravel()
        assert rows[name]["change"] == pytest.approx(np.linalg.norm(y - x), rel=1e-12)
        cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        assert rows[name]["cosine"] == pytest.approx(cosine, rel=1e-12)
        assert name in text
    biases = sum(np.sum((b[n] - a[n]).astype(np.float64) ** 2) for n in a if "bias" in n)
    assert rows["all biases"]["change"] == pytest.approx(np.sqrt(biases), rel=1e-5)
    same = json_of("params", "diff", ended, newest, newest, service=service)["tensors"]
    assert {row["change"] for row in same} == {0.0}


def test_verify_prints_the_verified_properties(service: str, ended: str) -> None:
    text = output("params", ended, "--verify", service=service)
    part = output(
        "params", ended, "--verify", "--tensor", "*.bias", "--cast", "bf16", service=service
    )

    assert text.count("verified: ") == 3
    assert ": the version's" in text
    assert "of the tensors sent (selected or cast), not of the whole version" in part
    assert "bfloat16" in part


@pytest.mark.parametrize("more", [[], ["--watch"]], ids=["once", "watched"])
def test_refuted_parameters_are_not_written(
    service: str,
    ended: str,
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refute(*_: object) -> None:
        raise CorruptParameters("version 1: refuted")

    monkeypatch.setattr("dbp.cli.params.proof.proof_of", refute)
    file = tmp_path / "refuted.safetensors"

    with pytest.raises(SystemExit) as ended_with:
        main(["params", ended, "--verify", *more, "-o", str(file), "--service", service])

    assert ended_with.value.code == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: version 1: refuted\n")
    assert not file.exists()


def test_every_version_that_is_watched_is_proved(service: str, ended: str) -> None:
    text = output("params", ended, "--watch", "--verify", service=service)
    told = json_of("params", ended, "--watch", "--verify", service=service)

    assert text.endswith(", verified\n")
    assert told["verified"][-1] == "every value is finite"


def test_every_version_is_reported_as_it_comes(
    service: str, running: str, tmp_path: Path
) -> None:
    file = tmp_path / "newest.safetensors"
    watching = start(
        "params", running, "--watch", "-o", str(file), "--output", "json", service=service
    )
    assert watching.stdout is not None
    told = [json.loads(watching.stdout.readline()) for _ in range(5)]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=DEADLINE)

    numbers = [entry["version"] for entry in told]
    assert numbers == sorted(set(numbers))
    assert told[0]["change"] is None
    assert all(entry["change"] > 0 for entry in told[1:])
    assert watching.returncode == 130
    assert load_file(file)


def test_a_label_is_watched_backwards_too(service: str, ended: str) -> None:
    newest, *_, oldest = (
        entry["version"]
        for entry in json_of("params", "versions", ended, "--limit", "1000", service=service)
        if entry["kept"]
    )
    watching = start(
        "params", ended, "--watch", "--label", "watched", "--output", "json", service=service
    )
    assert watching.stdout is not None
    assert watching.stderr is not None
    assert "no label 'watched' yet" in watching.stderr.readline()
    seen = []
    for version in (newest, oldest):
        output("params", "label", ended, "watched", str(version), service=service)
        seen.append(json.loads(watching.stdout.readline())["version"])
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=DEADLINE)

    assert seen == [newest, oldest]
    output("params", "label", ended, "watched", "--remove", service=service)


def test_watching_ends_with_the_job(service: str, ended: str) -> None:
    lines = output("params", ended, "--watch", service=service).splitlines()

    assert len(lines) == 1
    assert "step 300 (final)" in lines[0]


def test_the_chain_of_versions_is_followed(service: str, ended: str, running: str) -> None:
    for job in (ended, running):
        text = output("verify", job, service=service)
        assert text.rstrip().endswith("still stored were verified byte by byte")
    chain = json_of("verify", ended, service=service)

    assert chain["oldest"] == 1
    assert chain["links"] == chain["newest"]
    entries = json_of("params", "versions", ended, "--limit", "1000", service=service)
    assert chain["read"] == sum(entry["kept"] for entry in entries) >= 2
    missing = run("verify", "no-such-thing", service=service)
    assert missing.returncode == 4
    assert "no-such-thing: no file or folder here, and no job of that name" in missing.stderr


def test_a_damaged_version_breaks_the_chain(tmp_path: Path) -> None:
    with Server(tmp_path / "state") as server:
        spec = write_spec(tmp_path / "small.toml")
        job = output("submit", str(spec), service=server.address).strip()
        output("watch", job, service=server.address)
        folder = server.state / "jobs" / job / "parameters"
        path = min(folder.glob("*.safetensors"), key=lambda path: int(path.stem))
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

        done = run("verify", job, service=server.address)

        assert done.returncode == 1
        assert f"version {path.stem}" in done.stdout
        assert re.search(r": 1 problem in versions 1 to \d+\n$", done.stdout)
