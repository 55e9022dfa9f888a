"""Python client of the service: an async core, a synchronous client over it. Needs no MPI."""

from dbp.rpc.forking import import_grpc

import_grpc()
