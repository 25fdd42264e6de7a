"""Many lookups at once in the event loop of a triggerer, while AWS does not mint."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.cache import entry
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT
from tests.support.airflow_parts import Refusal
from tests.support.helpers import all_refreshes_done

LOOKUPS, CLUSTERS = 60, 2
CONN_IDS = [[f"c{number}" for number in range(first, LOOKUPS, CLUSTERS)] for first in range(CLUSTERS)]

# Each conn_id has a user, and so a credential, of its own.
WAREHOUSES = {
    "clusters": [
        {
            "identifier": f"prod-{number}",
            "tags": {
                "airflow:conn-id": " ".join(conn_ids),
                **{f"airflow:db-user/{conn_id}": f"user_of_{conn_id}" for conn_id in conn_ids},
            },
        }
        for number, conn_ids in enumerate([*CONN_IDS, ["first", "alone"]])
    ]
}
TIMEOUT_SECONDS = 4


@pytest.fixture
def backend(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedshiftSecretsBackend]:
    """The backend of a process that has the catalog, and to which AWS does not mint any more."""
    monkeypatch.setattr(entry, "_FIRST_PAUSE_SECONDS", 0.0)
    backend = RedshiftSecretsBackend(regions="eu-west-1", aws_timeout_seconds=TIMEOUT_SECONDS)
    for _ in range(100):  # on a slow machine the first lookups may end without a connection
        with contextlib.suppress(Refusal):
            if backend.get_connection("first") is not None:
                break
    stand_in.aws.faults.add(operation=MINT, kind="black_hole")
    yield backend
    stand_in.aws.faults.clear()
    all_refreshes_done()


async def refused(backend: RedshiftSecretsBackend, conn_id: str) -> tuple[str, float]:
    """Return why a lookup was refused, and after how many seconds."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(Refusal) as caught:
        await backend.aget_connection(conn_id)
    return str(caught.value), loop.time() - start


def test_sixty_lookups_end_as_soon_as_one_and_nothing_else_in_the_process_waits_for_them(
    backend: RedshiftSecretsBackend,
) -> None:
    async def all_of_them() -> Any:
        _, alone = await refused(backend, "alone")
        lookups = [asyncio.create_task(refused(backend, conn_id)) for some in CONN_IDS for conn_id in some]
        await asyncio.sleep(0)  # each of them has begun
        for _ in range(10):
            await asyncio.to_thread(int)
        ended_before_the_others = [lookup for lookup in lookups if lookup.done()]
        return alone, ended_before_the_others, await asyncio.gather(*lookups)

    alone, ended_before_the_others, outcomes = asyncio.run(all_of_them())
    assert ended_before_the_others == []
    assert len(outcomes) == LOOKUPS
    for reason, seconds in outcomes:
        assert "Timed out after" in reason or "(TimedOut)" in reason
        assert seconds < 2 * alone
