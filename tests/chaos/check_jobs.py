"""Rules for jobs: they exist once, end as they should, and are gone once they are deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from tests.chaos.history import CALL, OK, Entry, Histories, of_operation, of_role

Jobs = Mapping[str, Entry]

# How a call for a job that was deleted ends.
CODES: Final = {
    "get": "NOT_FOUND",
    "versions": "NOT_FOUND",
    "parameters": "NOT_FOUND",
    "watch": "NOT_FOUND",
    "logs": "NOT_FOUND",
    "delete": "NOT_FOUND",
    "submit": "ALREADY_EXISTS",
}


def submits(histories: Histories, jobs: Jobs, gone: Collection[str]) -> Iterator[str]:
    """Acknowledged jobs are there, once, unless someone deleted them; there are no others."""
    deleted = asked_for(histories, "delete")
    asked: set[str] = set()
    acknowledged: dict[str, str] = {}
    for entry in of_operation(histories, "submit"):
        if entry["kind"] == CALL:
            asked.add(entry["request"])
        elif entry["kind"] == OK:
            known = acknowledged.setdefault(entry["request"], entry["job"])
            if known != entry["job"]:
                yield f"doubled: one request made {known} and {entry['job']}"
    for name, count in Counter(acknowledged.values()).items():
        if name not in jobs and name not in deleted:
            yield f"lost: {name} was acknowledged and is not there"
        if count > 1:
            yield f"shared: {name} answers {count} requests"
    unanswered = len(asked) - len(acknowledged)
    others = len({*jobs, *gone} - set(acknowledged.values()))
    if others > unanswered:
        yield f"unrequested: {others} jobs, {unanswered} requests without answer"


def ends(histories: Histories, jobs: Jobs, end: Mapping[str, Any]) -> Iterator[str]:
    """Every job has ended as its spec says, or because someone cancelled it."""
    cancelled = asked_for(histories, "cancel")
    for name, job in jobs.items():
        if job["state"] == "JOB_STATE_CANCELLED":
            if name not in cancelled:
                yield f"end: {name} is cancelled without a request"
        elif job["state"] == "JOB_STATE_FAILED":
            if job["spec_name"] not in end["frail"] or job["checkpoint_step"]:
                yield f"end: {name} is {job['state']}: {job['failure']}"
        elif job["state"] != "JOB_STATE_SUCCEEDED":
            yield f"end: {name} is {job['state']}"
    for job in (*jobs.values(), *_described(histories)):
        wanted = end["digests"][job["spec_name"]]
        if job["state"] == "JOB_STATE_SUCCEEDED" and job["digest"] != wanted:
            yield f"bits: {job['name']} ended with other parameters than an undisturbed run"


def deletions(
    histories: Histories, jobs: Jobs, gone: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """A deleted job is gone for every call; a job that is gone was deleted."""
    deleted = {
        entry["job"]: "DeleteJob was acknowledged"
        for entry in of_operation(histories, "delete")
        if entry["kind"] == OK
    }
    for _, entries in of_role(histories, "watch"):
        for entry in entries:
            if entry["kind"] == "change" and entry["event"] == "JOB_EVENT_KIND_DELETED":
                deleted.setdefault(entry["job"], "a watcher saw it deleted")
    for name, why in deleted.items():
        if name in jobs:
            yield f"deleted: {name} is still listed: {why}"
    for name, codes in gone.items():
        if name not in deleted:
            yield f"deleted: {name} is gone, and no one has seen it deleted"
        for call, code in codes.items():
            if code != CODES[call]:
                yield f"deleted: {call} of {name} ended with {code}, not {CODES[call]}"


def versions(histories: Histories, jobs: Jobs) -> Iterator[str]:
    """Versions are numbered without gaps, in a chain of digests, and steps never fall.

    Those of a deleted job are known from shortly before.
    """
    for job in (*jobs.values(), *_described(histories)):
        before: Entry = {"version": 0, "step": 0, "digest": "", "rollbacks": 0}
        for version in sorted(job["versions"], key=lambda entry: entry["version"]):
            if version["version"] != before["version"] + 1:
                yield f"versions: {job['name']}: {before['version']}, then {version['version']}"
            if version["previous_digest"] != before["digest"]:
                yield f"versions: {job['name']}: the chain breaks at {version['version']}"
            if version["step"] < before["step"] and version["rollbacks"] == before["rollbacks"]:
                yield f"versions: {job['name']}: step {before['step']}, then {version['step']}"
            before = version


def asked_for(histories: Histories, operation: str) -> Counter[str]:
    """Count the calls of an operation for each job."""
    return Counter(
        entry["job"] for entry in of_operation(histories, operation) if entry["kind"] == CALL
    )


def _described(histories: Histories) -> Iterator[Entry]:
    for _, entries in of_role(histories, "delete"):
        yield from (entry for entry in entries if entry["kind"] == "description")
