"""The bundle that replaces the machine's roots for whoever uses the stand-in still has them in it."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest

from redshift_secrets.local.roots import trusted_roots

PEM = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n"


@pytest.fixture
def openssl(monkeypatch):
    def knows(cafile=None, capath=None):
        paths = SimpleNamespace(cafile=cafile and str(cafile), capath=capath and str(capath))
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)

    return knows


def test_the_file_that_openssl_names(openssl, tmp_path):
    (tmp_path / "cert.pem").write_bytes(PEM % b"named")
    openssl(tmp_path / "cert.pem", tmp_path)
    assert trusted_roots(["/nowhere"]).count(b"BEGIN") == 1


def test_the_bundle_of_the_system_where_openssl_names_nothing_that_is_there(openssl, tmp_path):
    (tmp_path / "empty.pem").write_bytes(b"# nothing\n")
    (tmp_path / "system.crt").write_bytes(PEM % b"system")
    openssl(tmp_path / "empty.pem")
    assert b"system" in trusted_roots([str(tmp_path / "nowhere.crt"), str(tmp_path / "system.crt")])


def test_a_folder_of_certificates(openssl, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.pem").write_bytes(PEM % name.encode())
    openssl(None, tmp_path)
    assert trusted_roots([]).count(b"BEGIN") == 2


def test_those_of_certifi_where_the_machine_has_none(openssl):
    openssl()
    assert trusted_roots([]).count(b"BEGIN") > 50


def test_an_https_client_takes_the_bundle(tmp_path):
    (tmp_path / "bundle.pem").write_bytes(trusted_roots())
    assert len(ssl.create_default_context(cafile=str(tmp_path / "bundle.pem")).get_ca_certs()) > 50
