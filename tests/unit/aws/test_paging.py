"""Pages of a listing: every one is read, an end is found, and a page that was read before is not asked for again."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from redshift_secrets.aws.paging import Page, ask_aws, read_pages
from redshift_secrets.errors import AwsError
from tests.unit.aws.recall import Memory, ProcessEndsError

OPERATION, RESOURCE, ME = "redshift:DescribeClusters", "every cluster in eu-west-1", "arn:aws:iam::1:role/x"


class Pages:
    """Pages by token, each with the next one's token. `asked` has the tokens that were asked for."""

    def __init__(self, pages: dict[str | None, Page]) -> None:
        self.pages = pages
        self.asked: list[str | None] = []
        self.ends_at: str | None = None
        self.refused: dict[str | None, str] = {}

    def __call__(self, token: str | None) -> Page:
        if self.ends_at is not None and token == self.ends_at:
            raise ProcessEndsError
        self.asked.append(token)
        if token in self.refused:
            raise AwsError(OPERATION, RESOURCE, ME, self.refused[token], "Refused.", "Try again.")
        return self.pages[token]


@pytest.fixture
def pages() -> Pages:
    return Pages({None: [["a", "b"], "2"], "2": [["c"], "3"], "3": [["d"], None]})


def read(pages: Any, recall: Any = ask_aws) -> list[Any]:
    return read_pages(OPERATION, RESOURCE, ME, pages, recall)


def test_every_page_is_read(pages: Pages) -> None:
    assert read(pages) == [["a", "b"], ["c"], ["d"]]
    assert pages.asked == [None, "2", "3"]


@pytest.mark.parametrize("end", ["", None])
def test_the_last_page_has_no_token_or_an_empty_one(pages: Pages, end: str | None) -> None:
    pages.pages["2"][1] = end
    assert read(pages) == [["a", "b"], ["c"]]


def test_a_listing_that_was_cut_is_continued_by_the_next_process(pages: Pages) -> None:
    memory = Memory()
    pages.ends_at = "3"
    with pytest.raises(ProcessEndsError):
        read(pages, memory)
    assert pages.asked == [None, "2"]
    assert list(memory.answers) == ["redshift:DescribeClusters", "redshift:DescribeClusters 2"]
    pages.ends_at, pages.asked = None, []
    assert read(pages, memory) == [["a", "b"], ["c"], ["d"]]
    assert pages.asked == ["3"]


@pytest.mark.parametrize(
    "code",
    [
        "InvalidPaginationException",
        "InvalidParameterException",
        "InvalidParameterValue",
        "PaginationTokenExpiredException",
        "ValidationException",
    ],
)
def test_a_listing_whose_remembered_token_is_refused_starts_over(pages: Pages, code: str) -> None:
    memory = Memory()
    pages.ends_at = "3"
    with pytest.raises(ProcessEndsError):
        read(pages, memory)
    pages.ends_at, pages.asked = None, []
    pages.refused = {"3": code}
    pages.pages[None][1], pages.pages["new"] = "new", [["c", "d"], None]
    assert read(pages, memory) == [["a", "b"], ["c", "d"]]
    assert pages.asked == ["3", None, "new"]


def test_a_listing_starts_over_only_once(pages: Pages) -> None:
    pages.refused = {"3": "ValidationException"}
    with pytest.raises(AwsError, match="Refused"):
        read(pages, Memory())
    assert pages.asked == [None, "2", "3"] * 2


def test_only_a_token_can_be_too_old(pages: Pages) -> None:
    pages.refused = {None: "ValidationException"}
    with pytest.raises(AwsError, match="Refused"):
        read(pages, Memory())
    pages.refused = {"2": "ThrottlingException"}
    with pytest.raises(AwsError, match="Refused"):
        read(pages, Memory())
    assert pages.asked == [None, None, "2"]


@pytest.mark.parametrize("repeated", ["2", "3"])
def test_pages_that_repeat_end(pages: Pages, repeated: str) -> None:
    pages.pages["3"][1] = repeated
    with pytest.raises(AwsError) as caught:
        read(pages, Memory())
    assert pages.asked == [None, "2", "3"]
    assert (caught.value.operation, caught.value.code, caught.value.host_only) == (OPERATION, "EndlessPaging", True)
    assert str(caught.value) == (
        "redshift:DescribeClusters on every cluster in eu-west-1 as arn:aws:iam::1:role/x failed (EndlessPaging): the pages"
        " do not end: after 3 of them there is still another. Look for a proxy or an endpoint that repeats answers."
    )


def test_pages_without_end_end() -> None:
    numbers = itertools.count(1)
    asked = []

    def ask(token: str | None) -> Page:
        asked.append(token)
        return [[], str(next(numbers))]

    with pytest.raises(AwsError, match="after 1000 of them there is still another"):
        read(ask)
    assert len(asked) == 1000
