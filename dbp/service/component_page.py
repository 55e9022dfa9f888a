"""ListComponents: the installed kinds, a page at a time."""

from __future__ import annotations

from typing import Final

from dbp.errors import InvalidInput
from dbp.jobs.paging import page_size, unknown_token
from dbp.registry import catalogue
from dbp.rpc.component_convert import component_to_proto, group_from_proto
from dbp.service.answer_page import AnswerPage
from dbp.v1 import component_pb2
from dbp.v1 import job_service_pb2 as pb

PAGE_SIZE: Final = 200


def component_page(request: pb.ListComponentsRequest) -> pb.ListComponentsResponse:
    """Return the page that a request asks for; InvalidInput. Loads plug-ins: it may block.

    A token names the last kind of the page before it, so a page is the same whenever it is
    read.
    """
    size = page_size(request.page_size, PAGE_SIZE)
    wanted = group_from_proto(request.group)
    if request.group and not wanted:
        known = ", ".join(component_pb2.ComponentGroup.keys())
        raise InvalidInput(f"group: must be one of {known}, got the number {request.group}")
    found = [info for info in catalogue() if wanted in ("", info.group)]
    names = [f"{info.group}/{info.kind}" for info in found]
    if request.page_token and request.page_token not in names:
        raise unknown_token(request.page_token)
    start = names.index(request.page_token) + 1 if request.page_token else 0
    page: AnswerPage[component_pb2.ComponentKind] = AnswerPage()
    for info in found[start : start + size]:
        if not page.add(component_to_proto(info)):
            break
    end = start + len(page.messages)
    token = names[end - 1] if end < len(names) else ""
    return pb.ListComponentsResponse(components=page.messages, next_page_token=token)
