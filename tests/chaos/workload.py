"""The jobs of a chaos run: small and exact, so that every one has known final parameters."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STEPS: Final = 1_500
STALL_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Work:
    """One kind of job: its number of ranks and its optimizer.

    ``frail``: its first failure ends it, until someone asks for a retry.
    """

    ranks: int
    optimizer: str
    frail: bool = False

    @property
    def name(self) -> str:
        """Name of the jobs of this kind."""
        return f"chaos-{self.optimizer}-{self.ranks}" + ("-frail" if self.frail else "")

    def document(self) -> dict[str, Any]:
        """Return the spec."""
        rate = 0.05 if self.optimizer == "sgd" else 1e-3
        return {
            "name": self.name,
            "seed": 11,
            "data": {"train": {"kind": "digits"}},
            "model": {
                "layers": [
                    {"kind": "dense", "units": 64, "activation": "relu"},
                    {"kind": "dense", "units": 10},
                ],
                "loss": {"kind": "softmax_cross_entropy"},
            },
            "optimizer": {"kind": self.optimizer, "learning_rate": rate},
            "train": {"batch_size": 64, "steps": STEPS, "numerics": "exact"},
            "checkpoint": {"every_steps": 50},
            "publish": {"every_seconds": 0.5, "best": False},
            # No number of faults is enough to give another job up here.
            "retry": {
                "attempts": 0 if self.frail else 1000,
                "backoff_seconds": 0.1,
                "stall_seconds": STALL_SECONDS,
            },
        }


_LASTING: Final = tuple(
    Work(ranks, optimizer) for ranks in (1, 2) for optimizer in ("sgd", "adam")
)
KINDS: Final = (*_LASTING, Work(1, "adam", frail=True), Work(2, "sgd", frail=True))


def digests(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of the final parameters of each kind of job, by its name."""
    found = {
        (work.ranks, work.optimizer): undisturbed(work, folder, variables) for work in _LASTING
    }
    return {work.name: found[work.ranks, work.optimizer] for work in KINDS}


def undisturbed(work: Work, folder: Path, variables: Mapping[str, str]) -> str:
    """Train without a service; return the digest of the final parameters."""
    spec = folder / f"{work.name}.json"
    spec.write_text(json.dumps(work.document()))
    run = folder / work.name
    command = [sys.executable, "-m", "dbp", "train", str(spec), "--run", str(run)]
    command += ["--workers", str(work.ranks), "--output", "json"]
    environment = {**os.environ, **variables}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return digest_of((run / "parameters.safetensors").read_bytes())


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of the tensors of a safetensors file, without its metadata."""
    length = int.from_bytes(content[:8], "little")
    return hashlib.sha256(content[8 + length :]).hexdigest()
