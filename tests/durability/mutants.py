"""Faults that would break promises of dbp, each a small change of its code.

``tests/durability/test_mutants.py`` applies one at a time to a copy of dbp and runs the tests
that must notice it. Where a change of dbp removes a mutant's text, write that fault into the
new code.
"""

from __future__ import annotations

from typing import Final

from tests.durability.job_mutants import JOBS
from tests.durability.storage_mutants import STORAGE

MUTANTS: Final = (*STORAGE, *JOBS)
