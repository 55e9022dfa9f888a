"""The chain of a job's versions: what breaks it, and what only cannot be judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dbp.cli.chain import Chain, follow_chain
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

    assert (chain.oldest, chain.newest, chain.links) == (1, 5, 5)
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

    chain = followed([versions[0], versions[1], *versions[4:7], versions[8]])

    assert chain.problems == ()
    assert chain.notes == (
        "version 8: no longer on record",
        "versions 3 to 4: no longer on record",
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
