"""Convert the spec of a request to its document, off the event loop where it is large."""

from __future__ import annotations

import asyncio
from typing import Final

from dbp.json_value import JsonObject
from dbp.rpc.spec_convert import spec_from_proto
from dbp.v1 import job_pb2

# Converted in less than a millisecond; a thread costs a tenth of that.
SMALL_BYTES: Final = 4 << 10


async def document_of(spec: job_pb2.JobSpec) -> JsonObject:
    """Return the document of a spec; raises as ``spec_from_proto``."""
    if spec.ByteSize() <= SMALL_BYTES:
        return spec_from_proto(spec)
    return await asyncio.to_thread(spec_from_proto, spec)
