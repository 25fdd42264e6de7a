"""Passwords in the maskers of the installed Airflow: every form from the moment it exists, and no longer than it is valid."""

from __future__ import annotations

import base64
import json
import re
import shlex
import threading
from urllib.parse import quote, quote_plus

import jinja2
import psycopg
import pytest

from redshift_secrets.airflow import masking
from redshift_secrets.airflow.masking import PasswordMasker, mask_password
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS
from tests.support import airflow_parts
from tests.support.airflow_parts import VERSION
from tests.support.fakes import EPOCH, Clock
from tests.support.helpers import in_child

PASSWORD = "p/a+s s=w%o:r@d?&é"
FORMS = {
    PASSWORD,
    quote(PASSWORD),
    quote(PASSWORD, safe=""),
    quote_plus(PASSWORD),
    quote(PASSWORD, safe=" +"),  # as SQLAlchemy's URLs have it
    PASSWORD.replace(":", "%3A").replace("@", "%40").replace("/", "%2F"),  # as those of SQLAlchemy 1.4 do
    json.dumps(PASSWORD)[1:-1],
    repr(PASSWORD)[1:-1],
    base64.b64encode(PASSWORD.encode()).decode(),
}


@pytest.fixture(autouse=True)
def clean_maskers():
    airflow_parts.reset_maskers()
    yield
    airflow_parts.reset_maskers()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def masker(clock):
    return PasswordMasker(clock)


def password(number: int) -> str:
    return f"pass/word+{number:04}="


def test_every_form_is_masked_in_every_masker_of_this_airflow():
    text = " | ".join(sorted(FORMS))
    assert set(airflow_parts.redacted(text)) == {text}
    mask_password(PASSWORD, float("inf"))
    assert set(airflow_parts.redacted(text)) == {" | ".join("***" for _ in FORMS)}
    assert len(masking.maskers()) == len(airflow_parts.MASKERS) == (2 if VERSION >= (3, 1) else 1)


QUOTED = "p'a\"s\\s é?>~$w"
URI = f"postgres://etl:{quote(QUOTED, safe='')}@prod:5439/dev"


@pytest.mark.attempt("print a password, a URI with it or its base64 in a task")
@pytest.mark.parametrize(
    "text",
    [
        base64.urlsafe_b64encode(QUOTED.encode()).decode(),
        *(base64.urlsafe_b64encode(f"{before}{QUOTED}$".encode()).decode() for before in ("", "a", "ab", "abc")),
        *(base64.urlsafe_b64encode(f"{before}{URI}".encode()).decode() for before in ("", "a", "ab")),
        repr(QUOTED.encode()),
        repr({"password": QUOTED}),
        repr(f"it's {QUOTED}"),
        repr(f'say "{QUOTED}"'.encode()),
        repr([f"it's \"{QUOTED}"]),
        shlex.quote(QUOTED),
        f"PGPASSWORD={shlex.quote(f'a {QUOTED}')}",
        quote(URI),
        quote_plus(URI),
        quote(quote(QUOTED, safe=" +"), safe=""),
        json.dumps({"line": json.dumps({"password": QUOTED})}),
    ],
)
def test_forms_within_forms_are_masked(text):
    assert set(airflow_parts.redacted(text)) == {text}
    mask_password(QUOTED, float("inf"))
    for redacted in airflow_parts.redacted(text):
        assert redacted.count("***") == 1
        assert len(redacted) <= len(text) - len(QUOTED) + 3


OF_AWS = "AMAFUyyuros/QjxPTtgz+csuQ=qz/IasdzJ=="
IN_OLD_URL = OF_AWS.replace("/", "%2F")  # as SQLAlchemy 1.4, yarl and Go write it
OF_ADMIN = "p$a&s<s>w'o:r%d+é="


@pytest.mark.attempt("print a password, a URI with it or its base64 in a task")
@pytest.mark.parametrize(
    ("secret", "text"),
    [
        (OF_AWS, quote(quote(OF_AWS))),
        (OF_AWS, quote_plus(quote_plus(OF_AWS))),
        (OF_AWS, quote_plus(quote(OF_AWS))),
        (OF_AWS, quote(IN_OLD_URL)),
        (OF_AWS, quote_plus(IN_OLD_URL)),
        (OF_AWS, quote(OF_AWS, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d")),
        *(
            (OF_AWS, base64.b64encode(f"{before}{quote(OF_AWS)}@prod:5439".encode()).decode())
            for before in ("", "a", "ab")
        ),
        (OF_AWS, OF_AWS.encode().hex()),
        (OF_AWS, json.dumps(OF_AWS).replace("/", "\\/")),  # as pandas and ujson write it
        (OF_ADMIN, jinja2.Environment().from_string("{{ it | tojson }}").render(it=OF_ADMIN)),
        (OF_ADMIN, quote(quote(OF_ADMIN))),
        (OF_ADMIN, quote_plus(OF_ADMIN.replace(":", "%3A"))),
        (OF_ADMIN, "+ PGPASSWORD=" + "'p$a&s<s>w'\\''o:r%d+é='"),  # `set -x` in bash
        (OF_ADMIN, psycopg.sql.Literal(OF_ADMIN).as_string(None)),
        (OF_ADMIN, psycopg.conninfo.make_conninfo(password=f"{OF_ADMIN} ")),
        (QUOTED, repr(json.dumps({"password": QUOTED}))),
    ],
)
def test_what_libraries_make_of_a_password_is_masked(secret, text):
    assert set(airflow_parts.redacted(text)) == {text}
    mask_password(secret, float("inf"))
    for redacted in airflow_parts.redacted(text):
        assert redacted.count("***") == 1
        assert len(redacted) <= len(text) - len(secret) + 3


@pytest.mark.parametrize("text", [repr("\"it's-mine"), repr(b"\"it's-mine"), repr(["it's-mine"])])
def test_a_quote_beside_it_changes_how_a_repr_writes_it(text):
    mask_password("it's-mine", float("inf"))
    for redacted in airflow_parts.redacted(text):
        assert "mine" not in redacted


def test_an_expired_password_leaves_the_maskers(masker, clock):
    masker.add(password(1), EPOCH + 100)
    masker.add(password(2), EPOCH + 10_000)
    clock.pass_(100 + CLOCKS_DIFFER_SECONDS)
    masker.add(password(3), EPOCH + 10_000)
    for each in masking.maskers():
        assert each.patterns == {masking._Secret(password(number), 0).pattern(each) for number in (2, 3)}
        assert set(each.replacer.forms) == masking.forms(password(2)) | masking.forms(password(3))
    for redacted in airflow_parts.redacted(" ".join(map(password, (1, 2, 3)))):
        assert redacted == f"{password(1)} *** ***"


def test_a_password_is_masked_as_long_as_aws_may_take_it_for_valid(masker, clock):
    masker.add(password(1), EPOCH + 100)
    clock.pass_(100 + CLOCKS_DIFFER_SECONDS - 1)
    masker.add(password(2), EPOCH + 10_000)
    assert set(airflow_parts.redacted(password(1))) == {"***"}


def test_a_password_that_is_registered_again_stays_until_its_latest_expiry(masker, clock):
    masker.add(password(1), EPOCH + 100)
    masker.add(password(1), EPOCH + 10_000)
    clock.pass_(5_000)
    masker.add(password(2), EPOCH + 10_000)
    assert set(airflow_parts.redacted(password(1))) == {"***"}


def test_a_registration_costs_no_more_after_a_thousand_passwords(masker, clock, monkeypatch):
    """Nothing is compiled, and what each line is searched for are the forms of the unexpired passwords alone."""
    monkeypatch.setattr(re, "compile", lambda *_: pytest.fail("a pattern is compiled"))
    for number in range(1000):
        clock.pass_(60)
        masker.add(password(number), clock() + 3000 - CLOCKS_DIFFER_SECONDS)
    unexpired = range(950, 1000)
    forms = {form for number in unexpired for form in masking.forms(password(number))}
    for each in masking.maskers():
        assert len(each.patterns) == len(unexpired)
        assert set(each.replacer.forms) == forms


def test_a_secret_that_airflow_registers_itself_takes_nothing_away(masker):
    masker.add(password(1), EPOCH + 10_000)
    for each in masking.maskers():
        each.add_mask("a secret of the site")
    masker.add(password(2), EPOCH + 10_000)
    text = f"{password(1)} a secret of the site {quote(password(2), safe='')}"
    assert set(airflow_parts.redacted(text)) == {"*** *** ***"}


def test_airflow_compiles_nothing_for_a_password_that_is_registered(masker):
    masker.add(password(1), EPOCH + 10_000)
    for each in masking.maskers():
        before = each.replacer
        each.add_mask(password(1))
        assert each.replacer is before


def test_maskers_that_airflow_reset_are_filled_again(masker):
    masker.add(password(1), EPOCH + 10_000)
    airflow_parts.reset_maskers()
    masker.add(password(1), EPOCH + 10_000)
    assert set(airflow_parts.redacted(password(1))) == {"***"}


def test_threads_that_register_at_once_lose_nothing(masker):
    together = threading.Barrier(8)

    def register(first: int) -> None:
        together.wait(30)
        for number in range(first, first + 25):
            masker.add(password(number), EPOCH + 10_000)

    threads = [threading.Thread(target=register, args=(number * 25,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    text = " ".join(map(password, range(200)))
    assert set(airflow_parts.redacted(text)) == {" ".join("***" for _ in range(200))}


def test_a_child_masks_what_its_parent_registered_and_more(masker):
    masker.add(password(1), EPOCH + 10_000)

    def in_the_child() -> list[str]:
        masker.add(password(2), EPOCH + 10_000)
        return airflow_parts.redacted(f"{password(1)} {password(2)}")

    assert set(in_child(in_the_child)) == {"*** ***"}


@pytest.mark.parametrize("short", ["", "i", "abcd"])
def test_a_short_text_is_not_masked_as_in_airflow_itself(masker, short):
    masker.add(short, EPOCH + 10_000)
    masker.add(password(1), EPOCH + 10_000)
    assert set(airflow_parts.redacted(f"it is {short} {password(1)}")) == {f"it is {short} ***"}


def test_a_password_that_is_part_of_another_one_does_not_uncover_the_rest(masker):
    masker.add("hunter2", EPOCH + 10_000)
    masker.add("a-hunter2-b", EPOCH + 10_000)
    assert set(airflow_parts.redacted("a-hunter2-b and hunter2")) == {"*** and ***"}


def test_no_password_is_in_a_repr(masker):
    masker.add(password(1), EPOCH + 10_000)
    assert password(1) not in repr([masker, *masker._registered.values(), *(m.replacer for m in masking.maskers())])
