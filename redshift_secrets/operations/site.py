"""The broker and the stores of a site, as its processes have them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from typing import TYPE_CHECKING

from redshift_secrets.airflow import configuration
from redshift_secrets.airflow.audit import get_or_create_audit
from redshift_secrets.airflow.masking import mask_password
from redshift_secrets.cache.store import SharedStore
from redshift_secrets.cache.tiers import Tier
from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.lookup.audit import Audit
from redshift_secrets.lookup.broker import Aws, Broker
from redshift_secrets.lookup.caller import caller_fingerprint
from redshift_secrets.lookup.wiring import LazyAwsClient, audit_key, create_broker, create_tiers
from redshift_secrets.settings import Settings

if TYPE_CHECKING:
    from redshift_secrets.aws.probing import ProbingClient
    from redshift_secrets.aws.tagging import Tagging


def site_client(settings: Settings) -> LazyAwsClient:
    """Return what calls AWS for this site; who shares it reads the models of AWS's services once."""
    return LazyAwsClient(settings, caller_fingerprint(os.environ))


def site_broker(
    settings: Settings, tiers: Sequence[Tier] = (), aws: Aws | None = None, requested_by: str | None = None
) -> Broker:
    """Return a broker for this site. Without tiers it asks AWS for everything, so that it shows what is true now. `requested_by` is
    for the audit, as in `site_audit`."""
    audit = site_audit(settings, requested_by)
    return create_broker(settings, aws or site_client(settings), tiers, mask=mask_password, audit=audit)


def site_caller(aws: LazyAwsClient) -> str | None:
    """Return the ARN that STS gives for this process's AWS credentials, `None` where it does not answer."""
    try:
        return aws.sts_identity()
    except RedshiftSecretsError:
        return None


def site_audit(settings: Settings, requested_by: str | None = None) -> Audit | None:
    """Return the audit of this site, `None` where it has none. Its events say who has asked for what they are about: the OS user of
    this process, where that is no user of Airflow."""
    if settings.audit is None:
        return None
    audit = get_or_create_audit(settings.audit, audit_key(settings, configuration.fernet_keys()))
    return audit.requested_by(requested_by or _os_user())


def _os_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many containers
        return str(os.getuid())


def site_tiers(settings: Settings) -> tuple[Tier, ...]:
    """Return the tiers that the processes of this site share, from near to far, once the caller is known in each."""
    caller = caller_fingerprint(os.environ)
    aws = LazyAwsClient(settings, caller)
    tiers = create_tiers(settings, caller, aws, airflow_keys=configuration.fernet_keys())
    for tier in tiers:
        tier.place("")
    return tiers


def site_stores(settings: Settings) -> list[SharedStore]:
    """Return the stores that the processes of this site share, whoever the caller is."""
    caller = caller_fingerprint(os.environ)
    aws = LazyAwsClient(settings, caller)
    return [each.store for each in create_tiers(settings, caller, aws, airflow_keys=configuration.fernet_keys())]


def site_probing(settings: Settings) -> ProbingClient:
    """Return what tries single calls to AWS, as this site makes them."""
    from redshift_secrets.aws.probing import ProbingClient  # loads boto3

    return ProbingClient(settings, tagging_patience_seconds=settings.aws_timeout_seconds)


def site_tagging(settings: Settings) -> Tagging:
    """Return what reads and writes the tags of one warehouse, as this site calls AWS."""
    from redshift_secrets.aws.tagging import Tagging  # loads boto3

    return Tagging(settings)
