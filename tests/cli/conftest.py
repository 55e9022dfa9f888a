"""One service for all commands that need one, and one job that has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.setups import Server, output, write_spec


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real service."""
    with Server(tmp_path_factory.mktemp("service") / "state") as server:
        yield server.address


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short job."""
    return write_spec(tmp_path_factory.mktemp("spec") / "small.toml")


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that ends only when it is cancelled."""
    path = tmp_path_factory.mktemp("spec") / "endless.toml"
    return write_spec(path, name="endless", steps=10**9)


@pytest.fixture(scope="session")
def ended(service: str, spec: Path) -> str:
    """Id of a job that has succeeded."""
    job = output("submit", str(spec), service=service).strip()
    output("watch", job, service=service)
    return job


@pytest.fixture(scope="session")
def weights(service: str, ended: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ended job's parameters in a file."""
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    output("params", ended, "-o", str(path), service=service)
    return path
