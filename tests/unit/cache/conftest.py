from __future__ import annotations

import pytest

from redshift_secrets.cache import ProcessCache
from tests.unit.cache.source import Source


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
def cache(clock):
    return ProcessCache(lambda key: f"the thing {key}", clock=clock)
