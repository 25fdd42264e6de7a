"""Errors of the simulated AWS."""

from __future__ import annotations


class AwsError(Exception):
    """An answer that AWS gives as an error. `code` is the error code a client sees (`ClusterNotFound`).

    Further members of the error's shape are attributes of their own (`resourceName`), because that is where
    moto's serializer looks for them.
    """

    def __init__(self, code: str, message: str, **members: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.members = members
        for name, value in members.items():
            setattr(self, name, value)


class DriftError(Exception):
    """An answer of ours that AWS could not have given: a bug of the stand-in, always answered with a loud 500."""


class NotSimulatedError(Exception):
    """Something real AWS does and neither we nor moto do; the message names it."""
