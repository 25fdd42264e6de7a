"""Errors of the simulated AWS."""

from __future__ import annotations


class AwsError(Exception):
    """An error response of AWS. `code` is the error code that the client sees (`ClusterNotFound`).

    Further members of the error's shape (`resourceName`) are set as attributes, which is where moto's serializer
    reads them.
    """

    def __init__(self, code: str, message: str, **members: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.members = members
        for name, value in members.items():
            setattr(self, name, value)


def access_denied(protocol: str, caller_arn: str, action: str, resource: str, because: str | None) -> AwsError:
    """Return AWS's error for a call that IAM does not allow.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
    """
    is_json = protocol in ("json", "rest-json")
    message = f"User: {caller_arn} is not authorized to perform: {action} on resource: {resource}"
    return AwsError(
        "AccessDeniedException" if is_json else "AccessDenied", f"{message} {because}" if because else message
    )


class InvalidResponseError(Exception):
    """The stand-in built a response that AWS could not send: a bug in the stand-in, always returned as a 500."""


class NotSimulatedError(Exception):
    """The request is for something that neither the stand-in nor moto simulates; the message names it."""
