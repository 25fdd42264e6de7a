"""A listing that was cut goes on in the next process; docs/contract.md, "Looking a conn_id up", 7."""

from __future__ import annotations

import pytest

from tests.support.fakes import Clock, FakeAws, cluster
from tests.support.helpers import Site
from tests.support.memory_store import MemoryStore, tier

PAGES = 7


class ProcessEndsError(BaseException):
    """The process that lists ends now."""


class PagedAws(FakeAws):
    """Lists in pages that take a second each; after `most` of them the process ends."""

    def __init__(self, clock, monotonic):
        super().__init__(clock, [cluster()])
        self.monotonic = monotonic
        self.most = PAGES
        self.pages = []

    def list(self, scope, recall):
        asked = []

        def ask(page):
            if len(asked) == self.most:
                raise ProcessEndsError
            asked.append(page)
            self.pages.append(page)
            self.clock.pass_(1)
            self.monotonic.pass_(1)
            return [page]

        for number in range(PAGES):
            assert recall(f"page {number}", lambda number=number: ask(number)) == [number]
        return super().list(scope, recall)


@pytest.fixture
def monotonic():
    return Clock(0)


@pytest.fixture
def aws(clock, monotonic):
    return PagedAws(clock, monotonic)


@pytest.fixture
def stores(clock):
    return [MemoryStore(clock), MemoryStore(clock, "fleet")]


@pytest.fixture
def new_process(aws, monotonic, stores):
    return lambda used=stores: Site(
        aws.clock, aws=aws, monotonic=monotonic, tiers=[tier(store) for store in used], warehouses=["clusters"]
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def cut(process, aws, pages):
    aws.most = pages
    process.ask()
    aws.most = PAGES


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
class TestGoingOn:
    def test_the_next_process_asks_for_what_is_left_and_a_few_short_ones_are_enough(self, aws, new_process):
        for _ in range(3):
            cut(new_process(), aws, 2)
        assert new_process().ask() is not None
        assert aws.pages == list(range(PAGES))

    def test_a_process_of_another_host_goes_on_too(self, aws, new_process, stores):
        cut(new_process(), aws, 5)
        assert new_process([MemoryStore(aws.clock), stores[1]]).ask() is not None
        assert aws.pages == list(range(PAGES))

    def test_the_listing_is_as_old_as_its_first_answer(self, aws, clock, new_process):
        cut(new_process(), aws, 5)
        clock.pass_(240)
        new_process().ask()
        began = clock() - 240 - PAGES
        assert new_process().broker.inventory.snapshot().stale_at == began + 300

    def test_answers_that_are_too_old_are_asked_for_again(self, aws, clock, new_process):
        cut(new_process(), aws, 5)
        clock.pass_(900)
        assert new_process().ask() is not None
        assert aws.pages == [*range(5), *range(PAGES)]

    def test_when_it_is_complete_nothing_of_it_is_left_in_the_way_of_the_next(self, aws, clock, new_process, stores):
        cut(new_process(), aws, 5)
        new_process().ask()
        assert not any(group.endswith("+") for store in stores for group in store.groups)
        aws.pages.clear()
        clock.pass_(1000)
        new_process().ask()
        assert aws.pages == list(range(PAGES))
