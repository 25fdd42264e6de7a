"""What is wrong with credentials and the configuration of clients before AWS is asked: found in what botocore lets pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions

from redshift_secrets.aws.exchanges import exchanges
from redshift_secrets.errors import exhausted_error, one_line

CHECK_TOKEN = (
    "Check that the pod has its service account and the volume with the token, and that this user may read it."
)
_GIVE_ROLE = "Give this process an instance profile, a task role or a pod role, or set profile_name."
CORRECT = "Correct it in the AWS configuration files and the environment."
_LOG_IN = "Log in again with aws sso login or aws login; for unattended use, give this process a role instead."
_PROGRAM = "custom-process"
_BY_PROVIDER = {
    _PROGRAM: "Run the program of credential_process by hand, as this OS user: it has to end with status 0 and print a JSON object with"
    " Version 1, AccessKeyId and SecretAccessKey.",
    "assume-role-with-web-identity": CHECK_TOKEN,
    "sso": _LOG_IN,
    "login": _LOG_IN,
    **dict.fromkeys(("assume-role", "config-file", "env", "shared-credentials-file"), CORRECT),
}
"""What to do, by botocore's names of its credential providers."""
CREDENTIAL_SOURCES = {
    "assume-role": "a role of the AWS configuration files",
    "assume-role-with-web-identity": "a web identity token",
    "boto-config": "a configuration file of boto",
    "config-file": "the AWS configuration file",
    "container-role": "the role of the container",
    "custom-process": "a credential_process",
    "ec2-credentials-file": "the file of AWS_CREDENTIAL_FILE",
    "env": "environment variables",
    "iam-role": "the instance's role",
    "login": "aws login",
    "shared-credentials-file": "the shared credentials file",
    "sso": "aws sso login",
}
"""What they are, by the same names."""
_OF_THE_ANSWER = ("Unsupported version", "Missing required key")
"""How botocore's texts about a program begin that do not quote what it has printed."""
INVALID_URLS = ("Invalid endpoint", "Invalid IPv6 URL", "Port ")
"""How texts begin that are about the URL of an endpoint."""
_ABOUT_VARIABLES = ("Unsupported host", "Auth token value")
"""How botocore's texts begin that are about AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN; they quote no secret."""
_TOKEN_FILES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")

_LOG_IN_AGAIN = tuple(
    getattr(exceptions, name)
    for name in ("SSOError", "TokenRetrievalError", "LoginError")
    if hasattr(exceptions, name)  # an older botocore knows no `aws login`
)
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.MetadataRetrievalError,
    exceptions.RefreshWithMFAUnsupportedError,
    exceptions.UnknownCredentialError,
)


class TokenFileError(exceptions.CredentialRetrievalError):  # type: ignore[misc]  # botocore has no types
    """A file that credentials are found with cannot be read; `variable` names it."""

    fmt = "{error_msg}"

    def __init__(self, error: OSError) -> None:
        name = str(error.filename)
        variable = next((each for each in _TOKEN_FILES if os.environ.get(each) == name), None)
        what = f"the token file {name} of {variable}" if variable else f"the file {name}"
        super().__init__(provider="file", error_msg=f"{what} cannot be read: {error.strerror}")
        self.variable = variable


class ClientConfigError(exceptions.BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """An option of the AWS configuration that no client can be made with."""

    fmt = "{error_msg}"


@contextmanager
def credential_errors(provider: str | None = None) -> Iterator[None]:
    """Raise as botocore's own error what its search for credentials lets pass: an unreadable file, an answer of a metadata service
    or a program that lacks something. `provider` is botocore's name of the one that is asked, where that is known."""
    try:
        yield
    except OSError as error:
        if error.filename is None or isinstance(error, exceptions.BotoCoreError) or exhausted_error(error) is not None:
            raise
        raise TokenFileError(error) from None
    except exceptions.CredentialRetrievalError as error:
        text = str(error.kwargs.get("error_msg"))
        if error.kwargs.get("provider") != _PROGRAM or text.startswith(_OF_THE_ANSWER):
            raise
        # AWS advises programs against secrets there, which is no protection.
        failed = "the program ended with an error, and what it printed is not shown, since it may hold a secret"
        raise exceptions.CredentialRetrievalError(provider=_PROGRAM, error_msg=failed) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, exceptions.BotoCoreError) or exchanges.last is not None:
            raise
        if isinstance(error, ValueError) and str(error).startswith(_ABOUT_VARIABLES):
            raise exceptions.InvalidConfigError(error_msg=one_line(str(error))) from None
        raise exceptions.CredentialRetrievalError(
            provider=_provider(error)
            or provider
            or "the metadata service, the program or the configuration that has them",
            error_msg=f"they cannot be read ({type(error).__name__})",
        ) from None


def _provider(error: BaseException) -> str | None:
    """Return botocore's name of the credential provider that an error was raised in, the innermost of them."""
    found, traceback = None, error.__traceback__
    while traceback is not None:
        method = getattr(traceback.tb_frame.f_locals.get("self"), "METHOD", None)
        found = method if isinstance(method, str) else found
        traceback = traceback.tb_next
    return found


@contextmanager
def client_errors() -> Iterator[None]:
    """Raise as `ClientConfigError` what botocore lets pass where it makes a client of options that it cannot read."""
    try:
        yield
    except exceptions.InvalidConfigError as error:
        raise ClientConfigError(error_msg=str(error)) from None
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, exceptions.BotoCoreError) or str(error).startswith(INVALID_URLS):
            raise
        what = f"an option of the AWS configuration files or the environment cannot be read ({type(error).__name__})"
        raise ClientConfigError(error_msg=what) from None


def advice_on_credentials(caught: Exception) -> str | None:
    """Return what to do about an error of botocore that says why there are no credentials, `None` for any other one."""
    if isinstance(caught, TokenFileError) and caught.variable is not None:
        return CHECK_TOKEN
    if isinstance(caught, (TokenFileError, exceptions.InfiniteLoopConfigError, exceptions.InvalidConfigError)):
        return CORRECT
    if isinstance(caught, _LOG_IN_AGAIN):
        return _LOG_IN
    if isinstance(caught, _NO_CREDENTIALS):
        return _BY_PROVIDER.get(str(caught.kwargs.get("provider")), _GIVE_ROLE)
    return None
