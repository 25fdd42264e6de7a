"""A botocore session that does not hold up forks."""

from __future__ import annotations

# The search for credentials needs the first two and would import them on first use, where a fork can interrupt the import.
import _strptime  # type: ignore[import-not-found]  # noqa: F401
import encodings.idna  # noqa: F401
import time
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from redshift_secrets.aws.credential_errors import client_errors, credential_errors
from redshift_secrets.aws.exchanges import exchanges
from redshift_secrets.aws.odd_members import leave_out_odd_members
from redshift_secrets.aws.recorded_credentials import RETRY_SECONDS, RecordedCredentials
from redshift_secrets.cache import forks
from redshift_secrets.errors import copy_for_reraise


class ForkSafeSession(botocore.session.Session):  # type: ignore[misc]  # botocore has no types
    """A botocore session whose clients are built inside `forks.no_fork_here`, without making a fork wait for the network.

    Building a client creates a TLS context: a child forked meanwhile would find OpenSSL's locks taken. Everything that may
    run a program or send a request happens before the gate is entered. The clients that botocore's own credential
    providers build (STS, SSO) are built here, too.
    """

    monotonic = staticmethod(time.monotonic)
    verify: bool | str | None = None
    """`verify` of clients that are created without it, those of botocore's credential providers too."""
    _credentials: Any
    _failed: tuple[float, Exception | None] | None = None

    def get_credentials(self) -> Any:
        """Return the credentials, `None` where there are none, or raise why they cannot be had; that is found out once for all
        clients, since botocore would ask a silent metadata service or run a failing program again for each."""
        if self._credentials is None and self._failed is not None:
            until, error = self._failed
            if self.monotonic() < until:
                if error is not None:
                    raise copy_for_reraise(error)
                return None
        try:
            with credential_errors():
                found, error = super().get_credentials(), None
        except Exception as caught:
            found, error = None, caught
        self._failed = (self.monotonic() + RETRY_SECONDS, error) if found is None else None
        if error is not None:
            raise error
        if found is not None and not isinstance(found, RecordedCredentials):
            found = self._credentials = RecordedCredentials(found)
        return found

    def create_client(self, service_name: str, *, config: Config | None = None, **arguments: Any) -> Any:
        """Return a client; raises `NoCredentialsError` where there are no credentials to sign its calls with."""
        default = self.get_default_client_config()
        if default is not None:
            config = default if config is None else default.merge(config)
        unsigned = config is not None and config.signature_version is UNSIGNED
        own_keys = arguments.get("aws_access_key_id") is not None
        # botocore keeps credentials that it has found, but searches again, IMDS included, for those that it has not.
        if not unsigned and not own_keys and self.get_credentials() is None:
            raise NoCredentialsError()
        if arguments.get("verify") is None:
            arguments["verify"] = self.verify
        mode = (config and config.defaults_mode) or self.get_config_variable("defaults_mode")
        if mode.lower() == "auto":
            # botocore would ask IMDS for the region, to choose between modes that differ in the connect timeout alone.
            config = (config or Config()).merge(Config(defaults_mode="standard"))
        with forks.no_fork_here, client_errors():
            client = super().create_client(service_name, config=config, **arguments)
        client.meta.events.register_first("before-parse", leave_out_odd_members)
        exchanges.watch(client)
        return client
