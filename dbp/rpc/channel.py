"""Addresses and channels, with options that fit at both ends. It sends nothing.

Messages stay below gRPC's default limit of 4 MiB: whatever may be larger is a stream.
"""

from __future__ import annotations

import json
from typing import Any, Final

import grpc

from dbp.errors import InvalidInput

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5327
DEFAULT_ADDRESS: Final = f"{DEFAULT_HOST}:{DEFAULT_PORT}"

KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000

# Calls without side effects, or made safe by their request id, are tried again while a
# service restarts; in all for less than a second, so that a missing one is soon named.
_RETRY: Final[dict[str, Any]] = {
    "methodConfig": [
        {
            "name": [
                {"service": "dbp.v1.JobService"},
                {"service": "dbp.v1.ParameterService"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

CLIENT_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.service_config", json.dumps(_RETRY)),
    # A service that comes back is found within a second, not after minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)

SERVER_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 3),
    ("grpc.so_reuseport", 0),  # or two services would share a port without a word
    ("grpc.max_metadata_size", 8 * 1024),
)


def parse_address(address: str) -> tuple[str, int]:
    """(host, port) of ``HOST:PORT``; raises InvalidInput."""
    host, colon, port = address.strip().rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInput(
            f"service address: expected HOST:PORT, such as {DEFAULT_ADDRESS}, got {address!r}"
        )
    return host, int(port)


def connect(address: str) -> grpc.aio.Channel:
    """A channel to a service; nothing is sent before the first call. InvalidInput."""
    host, port = parse_address(address)
    return grpc.aio.insecure_channel(f"{host}:{port}", options=CLIENT_OPTIONS)
