"""`redshift-secrets` with more patience with Redis than the product has, for machines that are busy."""

from __future__ import annotations

import functools

from redshift_secrets.cli.app import main
from redshift_secrets.lookup import wiring

_SECONDS = 300

if __name__ == "__main__":
    wiring.create_stores = functools.partial(
        wiring.create_stores, redis_patience_seconds=_SECONDS, redis_lease_seconds=_SECONDS
    )
    main()
