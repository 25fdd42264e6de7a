"""What is known of a site, for commands and the page: the catalog, and the credentials that tiers have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from redshift_secrets.cache import flushes
from redshift_secrets.cache.entry import Entry
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.cache.workers import Lookup, MustWait
from redshift_secrets.errors import CannotServeError, CatalogUnavailableError, PerDagCredentialsError
from redshift_secrets.lookup.catalog import Catalog, Unseen, divide, merge
from redshift_secrets.lookup.credentials import Credentials, name_of
from redshift_secrets.lookup.deciding import who_has_it
from redshift_secrets.lookup.listing import Listing, Specs
from redshift_secrets.lookup.reasons import causes
from redshift_secrets.model import ConnectionSpec, Credential, MintRequest, Scope
from redshift_secrets.settings import Settings


class Snapshot(Struct, frozen=True):
    """Everything that is known: specs by conn_id, scopes of which something is and of which nothing is, and what was left out
    of listings and why, as `Listing` has it.

    When the oldest and the newest listing were made, and until when all are fresh, is in seconds since the epoch. `listings` are
    what it was made of.
    """

    specs: Specs
    seen: tuple[Scope, ...]
    unseen: tuple[Unseen, ...]
    ignored: tuple[str, ...]
    problems: tuple[str, ...]
    unread: tuple[str, ...]
    listed_at: float
    newest_at: float
    stale_at: float
    listings: Mapping[Scope, Entry[Listing] | Exception]

    @classmethod
    def of(cls, entries: Mapping[Scope, Entry[Listing] | Exception]) -> Snapshot:
        """Return what is known from the listing of each scope, or why there is none."""
        seen, unseen = divide(entries)
        listings = [entry.value for entry in seen.values()]
        conn_ids = dict.fromkeys(conn_id for listing in listings for conn_id in listing.specs)
        return cls(
            {conn_id: merge([listing.specs.get(conn_id, ()) for listing in listings]) for conn_id in conn_ids},
            tuple(seen),
            unseen,
            tuple(reason for listing in listings for reason in listing.ignored),
            tuple(problem for listing in listings for problem in listing.problems),
            tuple(why for listing in listings for why in listing.unread),
            min((entry.made_at for entry in seen.values()), default=float("-inf")),
            max((entry.made_at for entry in seen.values()), default=float("-inf")),
            min((entry.stale_at for entry in seen.values()), default=float("-inf")),
            entries,
        )

    def is_made_of(self, entries: Mapping[Scope, Entry[Listing] | Exception]) -> bool:
        """Whether `of` returns an equal one for these: the same listings, and the same reasons where there is none."""
        return list(entries) == list(self.listings) and all(
            one is other or (isinstance(one, Exception) and isinstance(other, Exception) and str(one) == str(other))
            for one, other in zip(entries.values(), self.listings.values(), strict=True)
        )


class CachedConnection(Struct, frozen=True):
    """A connection of the catalog with its credential, if a tier has one: without the password. `tier` is the nearest that has it."""

    spec: ConnectionSpec
    credential: Entry[Credential] | None
    tier: str = ""


class Inventory:
    """Sees what lookups go by, and drops it. `begin` returns a lookup that begins now."""

    def __init__(
        self, settings: Settings, catalog: Catalog, credentials: Credentials, begin: Callable[[], Lookup]
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._credentials = credentials
        self._begin = begin

    def snapshot(
        self, lookup: Lookup | None = None, since: float = float("-inf"), last: Snapshot | None = None
    ) -> Snapshot:
        """Return everything that is known, with listings made after `since` (seconds since the epoch) where AWS answers; `last`
        itself while that is what is known.

        Raises `CatalogUnavailableError` when nothing is known.
        """
        lookup = lookup or self._begin()
        while True:
            try:
                listings = self._catalog.listings(lookup, since)
            except MustWait as must:
                must.wait()
                continue
            if last is not None and last.is_made_of(listings):
                return last
            snapshot = Snapshot.of(listings)
            if snapshot.stale_at == float("-inf"):
                raise CatalogUnavailableError(causes([(each.scope, each.error) for each in snapshot.unseen]))
            return snapshot

    def cached(self) -> tuple[Snapshot | None, list[CachedConnection]]:
        """Return what the nearest shared tier has: the catalog, and for each connection in it the credential."""
        listings = self._catalog.cached_listings()
        if not listings:
            return None, []
        snapshot = Snapshot.of(listings)
        return snapshot, self.cached_credentials(
            [spec for conn_id in sorted(snapshot.specs) for spec in snapshot.specs[conn_id]]
        )

    def cached_credentials(self, specs: Sequence[ConnectionSpec]) -> list[CachedConnection]:
        """Return each spec with the credential that memory or a shared tier has for it, without asking AWS."""
        found = self._credentials.locate([MintRequest.of(spec) for spec in specs])
        return [
            CachedConnection(spec, at[1], at[0]) if at is not None else CachedConnection(spec, None)
            for spec, at in zip(specs, found, strict=True)
        ]

    def serves(self, spec: ConnectionSpec, claims: Sequence[ConnectionSpec]) -> bool:
        """Whether of all claims of a conn_id by one team this is the one that lookups go by."""
        try:
            return who_has_it(claims, (), self._settings, lambda _level, _conn_id, _text: None) is spec
        except CannotServeError:
            return False

    def flush(self, tiers: Sequence[Tier], conn_id: str) -> dict[str, str | None]:
        """Remove the credentials of one conn_id from the tiers. Return by the name of each why that failed, `None` where it is
        done; nothing where the nearest one does not know the conn_id.

        Raises `PerDagCredentialsError` where there is one for each DAG: there is no list of those.
        """
        specs = Snapshot.of(self._catalog.cached_listings()).specs.get(conn_id, ())
        if any(spec.per_dag for spec in specs):
            raise PerDagCredentialsError(
                f"{conn_id!r} has a credential for each DAG, and there is no list of them: flush without a conn_id"
            )
        return _flush(tiers, [name_of(MintRequest.of(spec)) for spec in specs]) if specs else {}

    def flush_catalog(self, tiers: Sequence[Tier], conn_ids: Sequence[str] = ()) -> dict[str, str | None]:
        """Remove from the tiers what was listed for this caller, and how often these conn_ids were missing; credentials stay, and
        so does what the next listing is compared with to report claims that changed. Return as `flush`. Raises
        `RedshiftSecretsError`."""
        for tier in tiers:
            tier.place("")  # finds the caller out, before whom nothing is read
        lookup, names = self._begin(), None
        while names is None:
            try:
                self._catalog.keep_for_comparison(lookup)
                names = self._catalog.names(lookup, conn_ids)
            except MustWait as must:
                must.wait()
        return _flush(tiers, names)


def _flush(tiers: Sequence[Tier], names: Sequence[str]) -> dict[str, str | None]:
    return {
        tier.store.name: flushes.flush(tier.store, [group for name in names for group in tier.groups(name)])
        for tier in reversed(tiers)  # or a process would copy a farther row back
    }
