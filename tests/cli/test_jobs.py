"""Jobs from the command line, against a real service that runs them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.setups import Server, output, run, start, until, write_spec
from tests.deadline import DEADLINE

NOBODY = "127.0.0.1:1"


def shown(job: str, service: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        output("show", job, "--output", "json", service=service)
    )
    return content


def test_submit_prints_the_id_alone(service: str, spec: Path) -> None:
    job = output("submit", str(spec), service=service)

    assert job.startswith("small-")
    assert job.endswith("\n")
    done = run("watch", job.strip(), service=service)
    assert done.returncode == 0, done.stderr
    assert f"{job.strip()} SUCCEEDED" in done.stdout


def test_submit_and_watch_in_one(service: str, spec: Path) -> None:
    done = run("submit", str(spec), "-n", "2", "--watch", "--output", "json", service=service)

    assert done.returncode == 0, done.stderr
    created, *updates = [json.loads(line) for line in done.stdout.splitlines()]
    assert created["workers"] == 2
    assert all(update["job"] == created["id"] for update in updates)
    states = [update["state"]["state"] for update in updates if "state" in update]
    assert states[-1] == "SUCCEEDED"
    assert sorted(states, key=["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"].index) == states
    assert any(update["kind"] == "progress" for update in updates)


def test_the_same_request_gives_the_same_job(service: str, spec: Path, tmp_path: Path) -> None:
    asked = ("submit", str(spec), "--request-id", "once")

    first, second = output(*asked, service=service), output(*asked, service=service)

    assert first == second
    other = write_spec(tmp_path / "other.toml", steps=5)
    refused = run("submit", str(other), "--request-id", "once", service=service)
    assert refused.returncode == 4
    assert "once" in refused.stderr


def test_submit_shows_the_notes_on_the_data(tmp_path: Path) -> None:
    table = tmp_path / "indexed.csv"  # as pandas writes it: the index has no name
    table.write_text(",a,y\n" + "".join(f"{row},{row * 0.5},{row * 2.5}\n" for row in range(8)))
    spec = tmp_path / "indexed.toml"
    spec.write_text(
        'name = "indexed"\n[data]\n'
        f'train = {{ kind = "csv", path = "{table}", target = "y" }}\n'
        '[model]\nlayers = [{ kind = "dense", units = 1 }]\nloss = "mean_squared_error"\n'
        '[optimizer]\nkind = "sgd"\nlearning_rate = 0.01\n[train]\nbatch_size = 4\nsteps = 2\n'
    )

    with Server(tmp_path / "state") as server:
        service = server.address
        checked = run("submit", str(spec), "--check", "--output", "json", service=service)
        submitted = run("submit", str(spec), service=service)
        job = submitted.stdout.strip()
        content, details = shown(job, service), output("show", job, service=service)
        output("watch", job, service=service)

    (note,) = json.loads(checked.stdout)["notes"]
    assert note.startswith("data.train: ")
    assert submitted.stderr == f"note: {note}\n"
    assert content["notes"] == [note]
    assert f"  note       {note}" in details


def test_check_starts_nothing(service: str, spec: Path) -> None:
    before = output("jobs", "--output", "json", service=service)

    text = output("submit", str(spec), "--check", "-n", "2", service=service)
    content = json.loads(
        output("submit", str(spec), "--validate-only", "--output", "json", service=service)
    )

    assert text == f"{spec}: valid for 2 workers, spec {content['spec_digest']}\n"
    assert content["resolved"]["train"]["batch_size"] == 50
    assert content["resolved"]["train"]["dtype"] == "float32", "the default"
    del content["resolved"], content["spec_digest"]
    assert content == {"spec": str(spec), "valid": True, "workers": 1, "notes": []}
    ids = [job["id"] for job in json.loads(before)]
    after = json.loads(output("jobs", "--output", "json", service=service))
    assert [job["id"] for job in after] == ids


def test_a_cut_list_of_jobs_says_so(service: str, spec: Path, ended: str) -> None:
    second = output("submit", str(spec), service=service).strip()

    cut = run("jobs", "--limit", "1", service=service)
    cut_json = run("jobs", "--limit", "1", "--output", "json", service=service)
    filtered = run("jobs", "--limit", "1", "--state", "succeeded", service=service)
    whole = run("jobs", "--limit", "1000", service=service)

    assert cut.stdout.splitlines()[1].startswith(second)
    assert len(cut.stdout.splitlines()) == 2
    assert cut.stderr == (
        "note: 1 job shown, newest first; there are more: --limit 2, --state STATE\n"
    )
    assert (len(json.loads(cut_json.stdout)), cut_json.stderr) == (1, cut.stderr)
    assert "--state" not in filtered.stderr
    assert ended in whole.stdout
    assert whole.stderr == ""
    run("watch", second, service=service)


def test_a_bad_spec_names_file_and_line(service: str, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "bad.toml")
    spec.write_text(spec.read_text().replace('kind = "adam"', 'kind = "adm"'))

    done = run("submit", str(spec), service=service)

    assert done.returncode == 2
    assert f"{spec}:16: optimizer" in done.stderr
    assert "did you mean 'adam'" in done.stderr


def test_more_workers_than_slots_are_refused(service: str, spec: Path) -> None:
    done = run("submit", str(spec), "-n", "3", service=service)

    assert done.returncode == 4
    assert "2 slots" in done.stderr


def test_a_failing_job_is_exit_code_1_with_its_reason(service: str, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "bad.toml", name="wild", learning_rate="1e38")

    done = run("submit", str(spec), "--watch", service=service)

    assert done.returncode == 1
    assert "\n  loss or gradient not finite: " in done.stdout
    job = done.stdout.split()[0]
    assert shown(job, service)["failure"]["reason"] == "NON_FINITE"
    assert "\n  loss or gradient not finite: " in output("show", job, service=service)


def test_a_cancelled_job_is_exit_code_75(service: str, endless: Path) -> None:
    job = output("submit", str(endless), service=service).strip()
    watching = start("watch", job, service=service)
    until(lambda: shown(job, service)["progress"])

    told = output("cancel", job, service=service)

    assert told.startswith(f"{job} is CANCEL")
    text, errors = watching.communicate(timeout=DEADLINE)
    assert (watching.returncode, errors) == (75, "")
    assert f"{job} CANCELLED" in text
    # What has ended stays as it is.
    again = json.loads(output("cancel", job, "--output", "json", service=service))
    assert again["state"] == "CANCELLED"
    assert output("cancel", job, service=service) == f"{job} already ended: CANCELLED\n"


def test_ctrl_c_leaves_the_job_running(service: str, endless: Path) -> None:
    job = output("submit", str(endless), service=service).strip()
    watching = start("watch", job, "--output", "json", service=service)
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["job"] == job
    until(lambda: shown(job, service)["progress"])

    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=DEADLINE)

    assert watching.returncode == 130
    assert errors.strip() == f"{job} is not affected; follow it again: dbp watch {job}"
    assert shown(job, service)["state"] == "RUNNING"
    output("cancel", job, "--force", service=service)
    assert run("watch", job, service=service).returncode == 75


def test_jobs_are_listed_newest_first(service: str, ended: str, spec: Path) -> None:
    newest = output("submit", str(spec), service=service).strip()

    jobs = json.loads(output("jobs", "--output", "json", service=service))
    (only,) = json.loads(
        run("jobs", "--limit", "1", "--output", "json", service=service).stdout
    )
    table = output("jobs", "--state", "succeeded", service=service)
    assert all(line.endswith("  finished") for line in table.splitlines()[1:])

    ids = [job["id"] for job in jobs]
    assert ids.index(newest) < ids.index(ended)
    assert only["id"] == ids[0]
    heading, *rows = table.splitlines()
    assert heading.split()[:2] == ["JOB", "STATE"]
    assert {row.split()[1] for row in rows} == {"SUCCEEDED"}
    assert any(row.startswith(ended) for row in rows)
    assert run("watch", newest, service=service).returncode == 0


def test_show_reports_the_state_of_a_job(service: str, ended: str) -> None:
    content = shown(ended, service)

    assert content["id"] == ended
    assert content["state"] == "SUCCEEDED"
    assert content["progress"]["step"] == 300
    assert content["latest_parameters"]["final"]
    text = output("show", ended, service=service)
    assert "step 300" in text
    assert content["spec_digest"] in text


def test_a_job_may_be_named_by_its_beginning(service: str, ended: str, spec: Path) -> None:
    assert shown(ended[:-1], service)["id"] == ended
    newest = output("submit", str(spec), service=service).strip()
    assert run("watch", newest, service=service).returncode == 0

    several = run("show", "small-", service=service)

    assert several.returncode == 2
    assert f"'small-' begins several jobs: {newest}, " in several.stderr


def test_logs_are_those_of_the_run(service: str, ended: str) -> None:
    text = output("logs", ended, service=service)
    followed = output("logs", ended, "--follow", "--attempt", "1", service=service)
    lines = [
        json.loads(line)["line"]
        for line in output("logs", ended, "--output", "json", service=service).splitlines()
    ]

    assert "epoch" in text
    assert text == followed
    assert text == output("logs", ended, "--rank", "0", service=service)
    refused = run("logs", ended, "--rank", "7", service=service)
    assert refused.returncode == 4
    assert "no rank 7; its only rank is 0" in refused.stderr
    assert text.splitlines() == lines


COMMANDS = {
    "show": ("show", "{job}"),
    "watch": ("watch", "{job}"),
    "logs": ("logs", "{job}"),
    "cancel": ("cancel", "{job}"),
    "params": ("params", "{job}"),
    "predict": ("predict", "{job}", "{file}"),
    "evaluate": ("evaluate", "{job}"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_such_job_is_exit_code_4(service: str, command: tuple[str, ...], spec: Path) -> None:
    arguments = [word.format(job="nobody-1", file=spec) for word in command]

    done = run(*arguments, "--output", "json", service=service)

    assert (done.returncode, done.stdout) == (4, "")
    error = json.loads(done.stderr)["error"]
    assert error["kind"] == "JobNotFound"
    assert "nobody-1" in error["message"]


@pytest.mark.parametrize(
    "command",
    [*COMMANDS.values(), ("jobs",), ("submit", "{file}")],
    ids=[*COMMANDS, "jobs", "submit"],
)
def test_without_a_service_it_is_exit_code_3(command: tuple[str, ...], spec: Path) -> None:
    arguments = [word.format(job="nobody-1", file=spec) for word in command]

    done = run(*arguments, "--output", "json", service=NOBODY)

    assert (done.returncode, done.stdout) == (3, "")
    error = json.loads(done.stderr)["error"]
    assert error["kind"] == "Unavailable"
    assert "`dbp serve`" in error["message"]


def test_without_a_service_the_error_names_dbp_serve() -> None:
    done = run("jobs", service=NOBODY)

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: the service cannot be reached")
    assert "`dbp serve`" in done.stderr


def test_an_address_that_is_none_is_bad_input() -> None:
    done = run("jobs", "--service", "http://there")

    assert done.returncode == 2
    assert "HOST:PORT" in done.stderr
