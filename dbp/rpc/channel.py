"""gRPC channels to services, with the same limits at both ends.

Answers stay below gRPC's default limit of 4 MiB, except those of large inference batches;
everything else that may be larger is a stream.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Final

import grpc

from dbp.access.places import UNIX
from dbp.errors import InvalidInput
from dbp.json_value import JsonObject
from dbp.rpc.address import normalized
from dbp.rpc.bearer import Bearer
from dbp.rpc.bearer_channel import BearerChannel
from dbp.rpc.credentials import SYSTEM, Credentials
from dbp.rpc.forking import start_grpc
from dbp.rpc.stream_pool import StreamPool

# A client that sets no limit of its own receives messages of at most 4 MiB. Answers that may
# grow are cut below that, with some space for what gRPC and the client's tools add.
MAX_ANSWER_BYTES: Final = 4_000_000

# Batches of inputs; whatever else may be larger than a few MiB is a stream.
MAX_REQUEST_BYTES: Final = 32 << 20

# Closes connections to machines that are gone. A frozen service is noticed sooner, by deadlines
# of the client: its kernel acknowledges bytes, and a closed connection would not help.
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
CONNECT_MS: Final = 120_000

# Calls without side effects, or made safe by their request id, are tried again while a
# service restarts; in all for less than a second, so that a missing one is soon named.
# The readers of streams open them again, at the position where they stopped.
_RETRY: Final[JsonObject] = {
    "methodConfig": [
        {
            "name": [
                {"service": "dbp.v1.JobService", "method": "CreateJob"},
                {"service": "dbp.v1.JobService", "method": "GetJob"},
                {"service": "dbp.v1.JobService", "method": "ListJobs"},
                {"service": "dbp.v1.JobService", "method": "QueryMetrics"},
                {"service": "dbp.v1.JobService", "method": "CancelJob"},
                {"service": "dbp.v1.JobService", "method": "PauseJob"},
                {"service": "dbp.v1.JobService", "method": "ResumeJob"},
                {"service": "dbp.v1.JobService", "method": "RetryJob"},
                {"service": "dbp.v1.JobService", "method": "DeleteJob"},
                {"service": "dbp.v1.JobService", "method": "ListComponents"},
                {"service": "dbp.v1.ParameterService", "method": "GetParameterInfo"},
                {"service": "dbp.v1.ParameterService", "method": "GetParameters"},
                {"service": "dbp.v1.ParameterService", "method": "ListVersions"},
                {"service": "dbp.v1.ParameterService", "method": "MoveLabel"},
                {"service": "dbp.v1.ParameterService", "method": "ListLabels"},
                {"service": "dbp.v1.ParameterService", "method": "PinVersion"},
                {"service": "dbp.v1.ParameterService", "method": "PublishVersion"},
                *(
                    {"service": "inference.GRPCInferenceService", "method": method}
                    for method in (
                        "ServerLive",
                        "ServerReady",
                        "ServerMetadata",
                        "ModelReady",
                        "ModelMetadata",
                        "ModelConfig",
                        "ModelStatistics",
                        "ModelInfer",
                        "RepositoryIndex",
                    )
                ),
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # CANCELLED: gRPC drops calls of a service to which more arrive than it takes.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}

# Unread bytes that a slow client may hold in memory. gRPC would measure the bandwidth and let
# them grow to a third of a large download; this many fill 3 Gbit/s at 20 ms.
WINDOW_BYTES: Final = 8 << 20

CLIENT_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.service_config", json.dumps(_RETRY)),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    # A service that comes back is found within a second, not after minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name the limit of one attempt: at a frozen service, whose kernel accepts the
    # connection, calls shall end by their own deadlines, and continue when it does.
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # A service listens on loopback; a proxy that the environment names cannot reach it.
    ("grpc.enable_http_proxy", 0),
)

# gRPC would send a token again, to whatever program listens at the port by then.
_SENT_ONCE: Final = ("grpc.enable_retries", 0)

# A stopped client is gone after their sum: its kernel acknowledges bytes, but no ping. gRPC
# waits for the longer of the two timeouts.
_SERVER_KEEPALIVE_MS: Final = 20_000
_SERVER_KEEPALIVE_TIMEOUT_MS: Final = 15_000

# Calls that one connection may have open; ``StreamPool`` opens another one before.
MAX_STREAMS: Final = 100

# No limit. With one, gRPC notes every ping above it in a single text, which it copies each
# time, and cuts the connection only when its answers are written: 1 MiB of pings then takes
# seconds of a processor. Without one it stops reading while 10,000 answers are not written.
_PING_STRIKES: Final = 0

_IDLE_MS: Final = 600_000  # without a call; clients connect again with the next one
_HANDSHAKE_MS: Final = 10_000

_READ_BYTES: Final = 256 << 10

SERVER_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.keepalive_time_ms", _SERVER_KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _SERVER_KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _SERVER_KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Measured windows grow to megabytes for each stream, read or not. A request that is read
    # has a window of its own length in any case.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_ping_strikes", _PING_STRIKES),
    # No greatest age: gRPC would cut the streams of a connection that has reached it.
    ("grpc.max_connection_idle_ms", _IDLE_MS),
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.so_reuseport", 0),  # else two services could share a port without an error
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # For a fast sender gRPC would read megabytes of each connection at a time; older versions,
    # which ignore this option, do.
    ("grpc.experimental.tcp_max_read_buffer_size", _READ_BYTES),
)


def connect(address: str, credentials: Credentials | None = None) -> BearerChannel:
    """Return a channel to a service; nothing is sent before the first call.

    Args:
        address: HOST:PORT or unix:PATH. Calls to this user's own service at a port of this
            machine go over its Unix socket.
        credentials: None: those of the environment. See ``Bearer`` for the addresses to which
            a token is sent.

    Raises InvalidInput, and ClientForked in a process that was forked after a ``connect``.
    """
    target = normalized(address)
    found = credentials or Credentials.found(target)
    bearer = Bearer(target, found)
    secure = tls_credentials(found) if found.encrypted and not target.startswith(UNIX) else None
    start_grpc()

    def opened() -> grpc.aio.Channel:
        if secure is not None:
            return grpc.aio.secure_channel(target, secure, options=CLIENT_OPTIONS)
        options = (*CLIENT_OPTIONS, _SENT_ONCE) if bearer.unprotected else CLIENT_OPTIONS
        return grpc.aio.insecure_channel(target, options=options)

    return BearerChannel(StreamPool(opened), bearer, _socket_channel)


def _socket_channel(path: Path) -> grpc.aio.Channel:
    return StreamPool(
        lambda: grpc.aio.insecure_channel(f"{UNIX}{path}", options=CLIENT_OPTIONS)
    )


def tls_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """Return the certificates of a channel. Raises InvalidInput."""
    ca = None if credentials.ca == SYSTEM else _read(credentials.ca)
    key, cert = (_read(path) if path else None for path in (credentials.key, credentials.cert))
    try:
        if ca is not None:
            ssl.create_default_context(cadata=ca.decode("ascii"))
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{credentials.ca}: has no certificate in PEM: {error}") from error
    return grpc.ssl_channel_credentials(ca, key, cert)


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
