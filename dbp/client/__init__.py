"""Python client of the service: an async core, and a synchronous client over it."""

from dbp.rpc.forking import import_grpc

import_grpc()
