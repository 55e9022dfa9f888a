"""A profile of a run: observe its ranks, gather their spans, write traces and a summary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

from dbp.heartbeat.phase import Heartbeat
from dbp.json_value import JsonObject
from dbp.nn.model import Model
from dbp.parallel.communicator import Communicator
from dbp.parallel.traced import TracedCommunicator
from dbp.storage.atomic_file import make_folder, write_file
from dbp.train.profile.chrome import origin_of, trace
from dbp.train.profile.layers import trace_layers
from dbp.train.profile.rank_spans import RankSpans, gather
from dbp.train.profile.recorder import MAX_SPANS, Recorder
from dbp.train.profile.summary import Summary, summarize
from dbp.train.profile.target import SUMMARY
from dbp.train.profile.waits import Wait, waits_of


@final
class Profile:
    """The profile of one rank; on rank 0, after ``finish``, of all ranks.

    Every rank makes the same calls: ``observe``, ``traced``, ``trace_layers``, ``finish``.
    """

    def __init__(self, limit: int = MAX_SPANS) -> None:
        """Record whole steps until ``limit`` spans on a rank."""
        self._limit = limit
        self._recorder: Recorder | None = None
        self._ranks: Sequence[RankSpans] = ()
        self._waits: Sequence[Wait] = ()
        self.summary = Summary(0, 0, ())

    def observe(self, heartbeat: Heartbeat) -> Heartbeat:
        """Return the heartbeat of the run, which records its phases, too."""
        self._recorder = Recorder(heartbeat, limit=self._limit)
        return self._recorder

    def traced(self, communicator: Communicator) -> Communicator:
        """Return the communicator of the run, which records its calls."""
        return TracedCommunicator(communicator, self._own())

    def trace_layers(self, model: Model) -> None:
        """Record the passes through the layers of the model of the run."""
        trace_layers(model, self._own())

    def finish(self, communicator: Communicator) -> None:
        """End the recording; gather the spans of all ranks on rank 0. Collective."""
        recorder = self._own()
        recorder.close()
        self._ranks = gather(recorder, communicator)
        self._waits = waits_of(self._ranks)
        if communicator.rank == 0:
            self.summary = summarize(self._ranks, self._waits)

    def write(self, target: Path) -> None:
        """Write on rank 0 one trace of all ranks, or a folder with one for each; OSError.

        ``target``: a file if its name ends in ``.json``, otherwise a folder.
        """
        origin, summary = origin_of(self._ranks), self.summary.to_json()
        if target.suffix == ".json":
            whole = {**trace(self._ranks, self._waits, origin), "otherData": summary}
            _write(target, whole)
            return
        make_folder(target)
        for each in self._ranks:
            _write(target / f"rank-{each.rank}.json", trace([each], self._waits, origin))
        _write(target / SUMMARY, summary)

    def _own(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("call observe before the run")
        return self._recorder


def _write(path: Path, content: JsonObject) -> None:
    write_file(path, [json.dumps(content).encode()])
