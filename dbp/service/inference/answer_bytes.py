"""Serialize inference answers by hand: the constant part of a version's answers only once.

The fields of a message may be serialized in any order. The head holds the fields that all
answers of a version share; each answer appends its id and contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

from dbp.inference import open_inference_pb2 as pb
from dbp.job.state import Version
from dbp.service.inference.signature import TensorSpec

_MAX_HEADS: Final = 256
_FIELDS: Final = pb.ModelInferResponse.DESCRIPTOR.fields_by_name
_LENGTH_DELIMITED: Final = 2


def _tag(field: str) -> bytes:
    return bytes([_FIELDS[field].number << 3 | _LENGTH_DELIMITED])


_ID: Final = _tag("id")
_CONTENT: Final = _tag("raw_output_contents")


@final
class AnswerHeads:
    """Serialized heads of one version's answers; safe in several threads."""

    def __init__(self, job_id: str, version: Version) -> None:
        self._job_id = job_id
        self._version = version
        self._known: dict[tuple[str, tuple[str, ...], int], bytes] = {}

    def head(
        self, name: str, asked: tuple[str, ...], outputs: Iterable[TensorSpec], rows: int
    ) -> bytes:
        """Return the answer without its id and contents; ``asked``: names of the outputs."""
        key = (name, asked, rows)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_HEADS:
                self._known.clear()
            known = self._known[key] = self._made(name, outputs, rows)
        return known

    def _made(self, name: str, outputs: Iterable[TensorSpec], rows: int) -> bytes:
        version = self._version
        response = pb.ModelInferResponse(model_name=name, model_version=str(version.version))
        response.parameters["job"].string_param = self._job_id
        response.parameters["version"].int64_param = version.version
        response.parameters["step"].int64_param = version.step
        response.parameters["digest"].string_param = version.digest
        for spec in outputs:
            shape = (rows, *spec.row_shape)
            response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        return response.SerializeToString()


def finished(head: bytes, request_id: str, contents: Sequence[bytes]) -> bytes:
    """Return the complete serialized answer."""
    parts = [head]
    if request_id:
        text = request_id.encode()
        parts += (_ID, _varint(len(text)), text)
    for content in contents:
        parts += (_CONTENT, _varint(len(content)), content)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    """Encode a number with seven bits per byte, lowest first; the eighth means that more
    follow.
    """
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
