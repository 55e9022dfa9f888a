"""Speaking to a service from Python: one async core, and a plain face in front of it."""

from dbp.rpc.forking import import_grpc

import_grpc()
