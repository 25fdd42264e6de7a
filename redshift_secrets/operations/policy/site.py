"""The policies of a site as it is now, or as far as it can be seen."""

from __future__ import annotations

from msgspec.structs import replace

from redshift_secrets.aws.permissions import ANY
from redshift_secrets.aws.secret_keys import SecretKeys
from redshift_secrets.errors import AwsError, CatalogUnavailableError
from redshift_secrets.lookup.catalog import scopes_to_list
from redshift_secrets.model import ConnectionSpec
from redshift_secrets.operations.policy.documents import SitePolicies
from redshift_secrets.operations.policy.plan import plan_policies
from redshift_secrets.operations.site import site_broker, site_tagging
from redshift_secrets.settings import Settings


def site_policies(settings: Settings, caller: str | None) -> SitePolicies:
    """Return the policies for what is configured and tagged. Without access to AWS, for what is configured."""
    home = settings.regions or ((settings.region_name,) if settings.region_name else (_default_region(settings),))
    scopes = scopes_to_list(settings, home)
    keys = SecretKeys(settings)

    def secret_key(spec: ConnectionSpec) -> str | None:
        warehouse = spec.warehouse
        return keys.key_of(str(warehouse.admin_secret_arn), warehouse.region, warehouse.role_arn)

    try:
        snapshot = site_broker(settings).inventory.snapshot()
    except (AwsError, CatalogUnavailableError) as error:
        return plan_policies(settings, (), dict.fromkeys(scopes, str(error)), home, caller, secret_key)
    specs = [spec for conn_id in sorted(snapshot.specs) for spec in snapshot.specs[conn_id]]
    unseen = {each.scope: str(each.error) for each in snapshot.unseen}
    return plan_policies(settings, specs, unseen, home, caller, secret_key)


def in_account(site: SitePolicies, account: str) -> SitePolicies:
    """Return what of it is to be created in one account: where that is none of those that are known, the caller's."""
    here = tuple(each for each in site.identities if each.account == account)
    return replace(site, identities=here or tuple(each for each in site.identities if each.account is None))


def _default_region(settings: Settings) -> str:
    try:
        return site_tagging(settings).default_region()
    except AwsError:
        return ANY
