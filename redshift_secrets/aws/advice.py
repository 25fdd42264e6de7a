"""What to do about each error code of AWS."""

from __future__ import annotations

import re

from redshift_secrets.errors import DENIED, GONE

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
CLOCK_SKEW = frozenset({"RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"})
BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"})
UNKNOWN_KEY = frozenset(
    {
        "AuthFailure",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Those that botocore retries as throttling, too."""
_INTERNAL = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "InternalServiceError",
        "InternalServiceException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
_INVALID = frozenset(
    {
        "InvalidFilterKey",
        "InvalidFilterOption",
        "InvalidFilterValue",
        "InvalidParameterCombination",
        "InvalidParameterException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MalformedQueryString",
        "MissingParameter",
        "ValidationError",
        "ValidationException",
    }
)
WRONG_TIME = ("Signature expired", "Signature not yet")
"""What a bad signature is explained with where it is not the request."""

ENDPOINT_POLICY = "VPC endpoint policy"
"""What AWS names that has denied a call where no policy of the caller has: other hosts go through other endpoints, or through none.
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"""

_ELSEWHERE = {
    "no permissions boundary allows": "in the permissions boundary of {identity}, beside its policies",
    "no service control policy allows": "in the service control policies of the organization, for this account",
    "no resource control policy allows": "in the resource control policies of the organization, for this account",
    "no session policy allows": "in the session policy of {identity}: that in assume_role_kwargs, or of whoever began its session",
}
"""Where an action is to be allowed that the policies of the caller may allow already. A deny is told apart: nothing is to be allowed then."""
_DENIED_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)(?: on resource: \"?([^\s\"]+))?")
"""What AWS names where a call takes more than its own permission: JoinGroup, CreateClusterUser, kms:Decrypt."""
_BESIDE_ASSUME_ROLE = re.compile("sts:(TagSession|SetSourceIdentity|SetContext)")
_NO_KEY = "Access to KMS is not allowed"

_FIX_CLOCK = "This host's clock is out of sync with AWS. Synchronize it with NTP or the Amazon Time Sync Service."
_ENABLE = "Enable the service or the region for this account, or leave it out of regions."
_FEWER_TAGS = "AWS allows 50 tags on a resource: remove some, or say a field once for all conn_ids."
_WEB_IDENTITY = "sts:AssumeRoleWithWebIdentity"
_LOGINS = ("sso:", "sso-oidc:", "signin:")
_ROLE_OF_PROFILE = "role_arn, role_session_name, duration_seconds and external_id of the profile"
CHECK_ROLE_OF_PROFILE = f"Check AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME, or {_ROLE_OF_PROFILE}."

_BY_CODE = {
    "ClusterSecurityGroupNotFound": "Check the cluster's network settings in the Redshift console.",
    "ConflictException": "Another change to this resource is in progress; the request will be retried after a backoff.",
    "DecryptionFailure": "Allow the caller kms:Decrypt on the KMS key of this secret, and check that the key is enabled.",
    "DryRunOperation": "Remove what makes requests dry runs from the setting config.",
    "IDPCommunicationError": "AWS cannot reach the identity provider; the request will be retried after a backoff.",
    "IDPRejectedClaim": "The identity provider rejects the token: check that it is not revoked, and the audience and subject in the"
    " role's trust policy.",
    "InvalidAction": "Whatever answers at this address does not know the operation: check endpoint_url and AWS_ENDPOINT_URL.",
    "InvalidClusterState": "The cluster is changing its state; try again when it is available.",
    "InvalidContextAssertion": "Remove or correct the context assertion among the arguments of the role.",
    "InvalidIdentityToken": "AWS does not accept the web identity token: check that the OIDC provider of this cluster is registered in"
    " IAM with its current thumbprint and audience.",
    "InvalidRequestException": "The secret is being deleted or is not in a state to be read: see it in Secrets Manager, and restore"
    " it or let Redshift manage the admin password again.",
    "InvalidKeyId": "Check that the KMS key of each parameter exists and is enabled.",
    "InvalidNextToken": "The listing took too long; begin it again.",
    "InvalidTagFault": "Check the setting tag_prefix: AWS does not take it as the beginning of a tag.",
    "MalformedPolicyDocument": "Correct the session policy in assume_role_kwargs.",
    "OptInRequired": _ENABLE,
    "PackedPolicyTooLarge": "Name fewer or shorter groups or database roles: AWS packs session tags and session policies into a small space.",
    "ParameterNotFound": "The parameter was deleted meanwhile; try again.",
    "ParameterVersionNotFound": "The parameter was changed meanwhile; try again.",
    "PaginationTokenExpiredException": "The listing took too long and begins again.",
    "SubscriptionRequired": _ENABLE,
    "RegionDisabledException": "Enable STS or the region for this account (IAM, account settings), or leave the region out of regions.",
    "ResourceNotFoundFault": "It was deleted or renamed in the meantime.",
    "TagLimitExceeded": _FEWER_TAGS,
    "TooManyTags": _FEWER_TAGS,
    "UnknownOperationException": "Whatever answers at this address does not know the operation: check endpoint_url and"
    " AWS_ENDPOINT_URL.",
    "UnsupportedOperation": "This warehouse does not support the operation: set the tag or setting auth to another way of"
    " authenticating.",
}
"""For the codes with one meaning."""


def advice_on(code: str, operation: str, resource: str, identity: str, message: str) -> str:
    """Return what to do about an error of AWS. `operation` is the IAM action, `message` what AWS says."""
    if operation.startswith(_LOGINS) and code not in THROTTLED | _INTERNAL:
        return (
            "Check sso_account_id and sso_role_name of the profile, which whoever has logged in must have, and log in again with aws sso"
            " login or aws login."
        )
    named = _DENIED_ACTION.search(message) if code in DENIED and not operation.startswith("sts:") else None
    if named is not None and named[1] != operation:
        operation, resource = named[1], (named[2] or resource).rstrip(".,;")
    if code in DENIED and ENDPOINT_POLICY in message:
        return f"Allow {operation} on {resource} in the policy of the VPC endpoint that the requests of this host go through."
    where = next((where for why, where in _ELSEWHERE.items() if why in message), None) if code in DENIED else None
    if where is not None:
        return f"Allow {operation} on {resource} {where.format(identity=identity)}."
    if code in DENIED and _NO_KEY in message:
        return _BY_CODE["DecryptionFailure"]
    if code in DENIED and operation == _WEB_IDENTITY:
        return "The role's trust policy must name the OIDC provider of this Kubernetes cluster and the service account of this pod."
    beside = _BESIDE_ASSUME_ROLE.search(message) if code in DENIED else None
    if beside is not None:
        what = "sts:TagSession with these tags" if beside[0] == "sts:TagSession" else beside[0]
        return f"Allow {what}, beside sts:AssumeRole, in the role's trust policy and in the caller's policy."
    if code in DENIED and operation.startswith("sts:AssumeRole"):
        return "Allow it in the role's trust policy and in the caller's policy, and check external_id."
    if code in DENIED and "explicit deny" in message:
        return f"A policy explicitly denies {operation} on {resource} to {identity}; remove that statement, no grant overrides it."
    if code in DENIED:
        return f"Grant {operation} on {resource} to {identity}."
    if code in THROTTLED:
        return "AWS is throttling this account; the request will be retried after a backoff."
    if code in GONE and operation.startswith("secretsmanager:"):
        return "The secret was deleted or renamed after the last listing; the next listing corrects this."
    if code in GONE:
        return "It was deleted or renamed after the last listing; the next listing corrects this."
    if code in EXPIRED and operation == _WEB_IDENTITY:
        return "The web identity token has expired: check that its file is renewed, by the kubelet or whoever else writes it."
    if code in EXPIRED:
        return "The AWS credentials of this process have expired; renew them, or use a role whose credentials refresh themselves."
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
    if code in CLOCK_SKEW or (code in BAD_SIGNATURE and message.startswith(WRONG_TIME)):
        return _FIX_CLOCK
    if code in BAD_SIGNATURE:
        return "The secret access key of this process does not match the access key ID; configure both again."
    if code in UNKNOWN_KEY:
        return "AWS does not recognize the credentials of this process; check them, and that the region is enabled for the account."
    if code in _INTERNAL:
        return "AWS returned an internal error; the request will be retried after a backoff."
    if code in _INVALID and operation == "sts:AssumeRole":
        return (
            f"Check role_arn, its partition and assume_role_kwargs in the settings, or {_ROLE_OF_PROFILE}; sessions of a role that"
            " another role assumes last 3600 seconds at most."
        )
    if code in _INVALID and operation == _WEB_IDENTITY:
        return CHECK_ROLE_OF_PROFILE
    if code in _INVALID and operation == "redshift:GetClusterCredentials":
        return _advice_on_user(resource)
    if code in _INVALID:
        return f"AWS does not take the values it was asked with: check the tags and settings that {operation} is called with."
    # A model has two names of some: PackedPolicyTooLarge is the code of PackedPolicyTooLargeException.
    short = code.removesuffix("Exception").removesuffix("Fault")
    return _BY_CODE.get(code) or _BY_CODE.get(
        short, "Look up the error code in the AWS API reference of this operation."
    )


def _advice_on_user(resource: str) -> str:
    # https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html
    user = resource.partition(" and ")[0].rpartition("/")[2]
    if user != user.lower():
        return f"Write the database user in lower case: GetClusterCredentials takes no capitals, which {user!r} has."
    return (
        "Check the database user, groups and database: GetClusterCredentials takes lower-case letters, digits and _ + . @ -,"
        " beginning with a letter, and no reserved word."
    )
