"""The chain of a job's versions: what breaks it, and what only cannot be judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dbp.backup.restoring import LOST_VERSIONS
from dbp.cli.chain import Chain, follow_chain
from dbp.cli.verify import chain_text
from dbp.job.spec.resolve import digest_of
from dbp.job.state import Job, State, Version, VersionEntry

SPEC: dict[str, Any] = {"name": "a"}
DIGEST = digest_of(SPEC)


class Handle:
    """A job with versions on record whose bytes are gone."""

    id = "a"

    def __init__(self, *pages: list[Version], spec: dict[str, Any]) -> None:
        """``pages``: the versions on record at each request; the last page repeats."""
        self._pages = list(pages)
        self._spec = spec

    def get(self) -> Job:
        return Job("a", self._spec, digest_of(self._spec), 1, State.RUNNING, 0.0)

    def versions(self) -> Iterator[VersionEntry]:
        found = self._pages.pop(0) if len(self._pages) > 1 else self._pages[0]
        return (VersionEntry(version, False, False, ()) for version in reversed(found))

    def parameters(self, version: int = 0) -> None:
        return None


def chain_of(count: int) -> list[Version]:
    return [
        Version(n, n, 1, f"d{n}", 10, 0.0, False, f"d{n - 1}" if n > 1 else "", DIGEST)
        for n in range(1, count + 1)
    ]


def followed(*pages: list[Version], spec: dict[str, Any] = SPEC) -> Chain:
    return follow_chain(Handle(*pages, spec=spec))  # type: ignore[arg-type]


def test_a_whole_chain_is_sound() -> None:
    chain = followed(chain_of(5))

    assert (chain.oldest, chain.newest, chain.links, chain.unlinked) == (1, 5, 5, 0)
    assert chain.problems == chain.notes == ()


def test_steps_go_back_where_the_run_did() -> None:
    versions = chain_of(5)
    versions[3:] = [replace(v, step=v.step - 3, rollbacks=1) for v in versions[3:]]

    assert followed(versions).problems == ()


@pytest.mark.parametrize("restores", [True, False])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("attempt", [2, 3])
def test_only_a_final_version_of_a_run_that_restores_its_best_epoch_is_of_an_earlier_step(
    restores: bool, final: bool, attempt: int
) -> None:
    spec = {**SPEC, "train": {"stop": {"restore_best": restores}}}
    digest = digest_of(spec)
    versions = [replace(v, spec_digest=digest, attempt=2) for v in chain_of(4)]
    versions[3] = replace(versions[3], step=2, final=final, attempt=attempt)

    chain = followed(versions, spec=spec)

    expected = (
        () if restores and final else ("version 4: step 2 is lower than step 3 of version 3",)
    )
    assert chain.problems == expected


def test_a_new_attempt_is_no_reason_for_an_earlier_step() -> None:
    versions = chain_of(4)
    versions[2:] = [replace(v, attempt=2) for v in versions[2:]]
    assert followed(versions).problems == ()

    versions[2:] = [replace(v, step=v.step - 2) for v in versions[2:]]

    assert followed(versions).problems == (
        "version 3: step 1 is lower than step 2 of version 2",
    )


def test_an_attempt_publishes_nothing_after_the_next_one() -> None:
    versions = chain_of(3)
    versions[1] = replace(versions[1], attempt=2)

    assert followed(versions).problems == (
        "version 3: of attempt 1, but version 2 is of attempt 2",
    )


def test_deleted_versions_are_noted_and_do_not_break_the_chain() -> None:
    versions = chain_of(9)

    chain = followed([versions[1], versions[2], *versions[4:7], versions[8]])

    assert chain.problems == ()
    assert chain.notes == (
        (
            "version 8: no longer on record; it is unknown whether version 9 names the digest "
            "of version 7"
        ),
        (
            "version 4: no longer on record; it is unknown whether version 5 names the digest "
            "of version 3"
        ),
        "version 1: no longer on record",
    )
    assert chain.unlinked == 2


def restored(
    after: int, count: int = 4, passed: int = LOST_VERSIONS, **change: Any
) -> list[Version]:
    """A chain whose versions after the first ``after`` follow a restore of a backup."""
    versions = chain_of(count)
    for place in range(after, count):
        versions[place] = replace(versions[place], version=versions[place].version + passed)
    versions[after] = replace(versions[after], **change)
    return versions


@pytest.mark.parametrize("times", [1, 2])
def test_the_link_across_the_numbers_that_a_restore_passed_over_is_verified(times: int) -> None:
    chain = followed(restored(2, passed=times * LOST_VERSIONS))

    assert (chain.problems, chain.unlinked) == ((), 0)
    assert chain.notes == (
        (
            f"versions 3 to {2 + times * LOST_VERSIONS}: never published, passed over by a "
            f"restore of a backup; version {3 + times * LOST_VERSIONS} names the digest of "
            "version 2"
        ),
    )


@pytest.mark.parametrize("times", [1, 2])
def test_a_version_after_a_restore_must_name_the_newest_version_in_the_backup(
    times: int,
) -> None:
    passed = times * LOST_VERSIONS

    chain = followed(restored(2, passed=passed, previous_digest="other"))

    assert chain.problems == (
        (
            f"version {3 + passed}: names other as the digest of the version before it, 2, but "
            "that is d2"
        ),
    )
    assert chain.notes == (
        f"versions 3 to {2 + passed}: never published, passed over by a restore of a backup",
    )


def test_a_gap_with_versions_off_the_record_beside_a_restore_is_not_judged() -> None:
    versions = restored(2)
    del versions[2]

    chain = followed(versions)

    assert (chain.problems, chain.unlinked) == ((), 1)
    assert chain.notes == (
        (
            "versions 3 to 1000003: no longer on record; it is unknown whether version 1000004 "
            "names the digest of version 2"
        ),
    )


def test_the_first_version_may_follow_a_restore_of_a_backup_without_versions() -> None:
    chain = followed(restored(0))

    assert (chain.problems, chain.unlinked) == ((), 0)
    assert chain.notes == (
        (
            "versions 1 to 1000000: never published, passed over by a restore of a backup "
            "without versions"
        ),
    )
    assert followed(restored(0, previous_digest="other")).problems == (
        "version 1000001: names a version before it (other), but is first",
    )


def test_versions_of_an_older_dbp_have_unknown_predecessors() -> None:
    versions = chain_of(6)
    for place in range(4):
        versions[place] = replace(versions[place], previous_digest="", spec_digest="")

    chain = followed(versions)

    assert chain.problems == ()
    assert chain.notes == (
        "versions 2 to 4: no digest of the version before is on record",
        "versions 1 to 4: no digest of the spec is on record",
    )
    assert chain.unlinked == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"previous_digest": "other"},
            "version 3: names other as the digest of the version before it, but that is d2",
        ),
        ({"spec_digest": "other"}, "version 3: names the spec digest other, but the job's is "),
        ({"step": 1}, "version 3: step 1 is lower than step 2 of version 2"),
        ({"step": 9, "rollbacks": -1}, "version 3: step 9 is lower than step 2 of version 2"),
    ],
)
def test_inconsistent_versions_break_the_chain(change: dict[str, Any], words: str) -> None:
    versions = chain_of(4)
    versions[2] = replace(versions[2], **change)

    (problem,) = followed(versions).problems

    assert problem.startswith(words)


def test_a_version_that_comes_while_there_is_none_is_followed() -> None:
    assert followed([], chain_of(1)).newest == 1


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        (chain_of(1), "ok, 1 version forms one chain; "),
        (restored(2), "ok, 4 versions form one chain; "),
        (chain_of(4)[1:], "ok, 3 versions form one chain; "),
        (
            [*chain_of(4)[:2], *chain_of(4)[3:]],
            "ok, 3 versions form 2 chains (the link between them cannot be verified); ",
        ),
        (
            chain_of(9)[::3],
            "ok, 3 versions form 3 chains (the links between them cannot be verified); ",
        ),
    ],
)
def test_the_verdict_says_how_far_the_chain_reaches(versions: list[Version], text: str) -> None:
    assert chain_text(followed(versions)).startswith(text)
