"""The request that each thread is waiting for, and what came back: where, what kind of answer, never its text in a message."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from redshift_secrets.cache import forks
from redshift_secrets.errors import one_line

_PREFIXES = {"resourcegroupstaggingapi": "tag"}
"""The prefix of the IAM action where it is not boto3's name of the service."""


class Exchange:
    """One request to AWS. `body` is what came, while the call is read; it may hold a password."""

    def __init__(
        self, operation: str, endpoint: str, region: str, ca_bundle: str | None, proxy: str | None = None
    ) -> None:
        self.operation = operation
        self.endpoint = endpoint
        self.region = region
        self.ca_bundle = ca_bundle
        self.proxy = proxy
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: bytes = b""

    @property
    def where(self) -> str:
        """The endpoint, and the proxy that it is asked through, without user and password."""
        return f"{self.endpoint} through the proxy {self.proxy}" if self.proxy else self.endpoint

    @property
    def was_answered(self) -> bool:
        """Whether anything came back."""
        return self.status is not None

    def describe_answer(self) -> str:
        """Return what came, without any of it: status, declared type, length, and what it looks like."""
        declared = [
            one_line(f"{name}: {self.headers[name]}", 80)
            for name in ("Content-Type", "Content-Encoding", "Server")
            if self.headers.get(name)
        ]
        size = f"{len(self.body)} bytes"
        return f"{_kind(self.body)} (HTTP status {self.status}, {', '.join([*declared, size])})"


def _kind(body: bytes) -> str:
    start = body.lstrip()[:200].lower()
    if not start:
        return "an empty body"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.startswith(b"<"):
        try:
            ElementTree.fromstring(body)  # botocore has parsed it the same way
        except ElementTree.ParseError:
            return "XML that is cut off or broken"
        return "other XML"
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "JSON that is cut off or broken" if start.startswith((b"{", b"[")) else "neither JSON nor XML"
    return "other JSON"


class Exchanges:
    """What is asked of AWS in this process. Safe among threads; the child of a fork has asked nothing."""

    def __init__(self) -> None:
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, where none of the threads exist."""
        self._thread = threading.local()
        self._unanswered: dict[int, Exchange] = {}

    def watch(self, client: Any) -> None:
        """Record every request of a client from now on."""
        service, region = client.meta.service_model.service_name, str(client.meta.region_name)
        session = getattr(getattr(client, "_endpoint", None), "http_session", None)
        ca_bundle = _ca_bundle(getattr(session, "_verify", None))

        def before_send(request: Any, event_name: str, **_: Any) -> None:
            operation = f"{_PREFIXES.get(service, service)}:{event_name.rpartition('.')[2]}"
            self._begin(Exchange(operation, _origin(request.url), region, ca_bundle, proxy_for(session, request.url)))

        client.meta.events.register_first("before-send", before_send)
        client.meta.events.register_first("before-parse", self._answer)

    def _begin(self, exchange: Exchange) -> None:
        self._thread.last = self._unanswered[threading.get_ident()] = exchange

    def _answer(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        self._unanswered.pop(threading.get_ident(), None)
        exchange = self.last
        if exchange is not None:
            body = response_dict.get("body")
            exchange.status, exchange.headers = response_dict["status_code"], response_dict["headers"]
            exchange.body = body if isinstance(body, bytes) else b""

    @contextmanager
    def search(self, source: str) -> Iterator[None]:
        """While this lasts, and nothing else is asked, it is this source of credentials that has not answered."""
        me, searched = threading.get_ident(), Exchange("", source, "", None)
        self._unanswered[me] = searched
        try:
            yield
        finally:
            if self._unanswered.get(me) is searched:
                del self._unanswered[me]

    @property
    def last(self) -> Exchange | None:
        """The last request of this thread in the call that it makes, `None` where it has sent none."""
        return getattr(self._thread, "last", None)

    def repeat(self, exchange: Exchange | None) -> None:
        """Have `last` be about what another thread has asked for this one, too."""
        self._thread.last = exchange

    @contextmanager
    def call(self) -> Iterator[None]:
        """While this lasts, `last` is about this call; then nothing of it is kept."""
        before, self._thread.last = self.last, None
        try:
            yield
        finally:
            self._unanswered.pop(threading.get_ident(), None)
            self._thread.last = before

    def unanswered(self, service_prefixes: tuple[str, ...], region: str) -> list[Exchange]:
        """Return the requests of these services in a region that have no answer yet; of STS, those of all regions, and what is searched
        for credentials, which has no operation."""
        return [
            each
            for each in list(self._unanswered.values())
            if each.operation.startswith("sts:")
            or not each.operation
            or (each.region == region and each.operation.startswith(service_prefixes))
        ]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", 300)


def proxy_for(session: Any, url: str) -> str | None:
    """Return host and port of the proxy that botocore's HTTP session sends a request through, `None` where it uses none."""
    proxies = getattr(session, "_proxy_config", None)
    proxy = proxies.proxy_url_for(url) if proxies is not None else None
    return one_line(proxy.rpartition("@")[2].rpartition("://")[2], 300) if proxy else None


def _ca_bundle(verify: Any) -> str | None:
    """The path of the certificates that a server's is checked against, `None` where none is checked."""
    if isinstance(verify, str):
        return verify
    if not verify:
        return None
    from botocore.httpsession import where

    return str(where())


exchanges = Exchanges()
"""Of all clients of this process."""
