"""The smallest IAM policies for what is configured and tagged: of a site (`site`), who needs what (`plan`), as documents within
IAM's limits (`documents`), written for other tools (`code`)."""

from redshift_secrets.operations.policy.code import FORMS, as_code
from redshift_secrets.operations.policy.documents import IdentityPolicies, Placeholder, SitePolicies
from redshift_secrets.operations.policy.plan import plan_policies, read_caller
from redshift_secrets.operations.policy.site import in_account, site_policies

__all__ = [
    "FORMS",
    "IdentityPolicies",
    "Placeholder",
    "SitePolicies",
    "as_code",
    "in_account",
    "plan_policies",
    "read_caller",
    "site_policies",
]
