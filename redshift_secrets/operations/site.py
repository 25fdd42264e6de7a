"""The broker and the stores of a site, as its processes have them."""

from __future__ import annotations

from collections.abc import Sequence

from redshift_secrets.airflow import configuration
from redshift_secrets.airflow.masking import mask_password
from redshift_secrets.cache.store import NamespacedStore
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker, create_stores
from redshift_secrets.settings import Settings


def site_broker(settings: Settings, stores: Sequence[NamespacedStore] = ()) -> Broker:
    """Return a broker for this site. Without stores it asks AWS for everything, so that it shows what is true now."""
    return create_broker(settings, stores, mask=mask_password)


def site_stores(settings: Settings) -> tuple[NamespacedStore, ...]:
    """Return the tiers that the processes of this site share, from near to far."""
    stores = create_stores(settings, LazyAwsClient(settings), airflow_keys=configuration.fernet_keys())
    for store in stores:
        store.get_ready()
    return stores
