"""Python client of the service: an async core, a synchronous client over it. Never imports the
service, and needs no MPI."""

from dbp.rpc.forking import import_grpc

import_grpc()
