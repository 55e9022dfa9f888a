"""Page sizes and page tokens of lists."""

from __future__ import annotations

import pytest

from dbp.errors import InvalidInput
from dbp.jobs.paging import MAX_PAGE_SIZE, number_of, page_size


def test_size_0_means_the_default_and_too_much_the_most() -> None:
    assert page_size(0, 50) == 50
    assert page_size(7, 50) == 7
    assert page_size(10**9, 50) == MAX_PAGE_SIZE


def test_a_negative_size_is_refused_with_the_allowed_range() -> None:
    with pytest.raises(InvalidInput, match="got -1; 0 means 50, the most are 1,000"):
        page_size(-1, 50)


def test_a_token_is_a_number_or_empty() -> None:
    assert number_of("") is None
    assert number_of("17") == 17


@pytest.mark.parametrize("token", ["x", "-5", "1.5", "\u0661", "9" * 19, " 7"])
def test_any_other_token_is_refused_with_where_to_take_one_from(token: str) -> None:
    with pytest.raises(InvalidInput, match=r"page_token: .* send next_page_token of the page"):
        number_of(token)
