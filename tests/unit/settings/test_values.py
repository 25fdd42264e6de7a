"""Single values: what is accepted, what it becomes, and what the refusal says."""

from __future__ import annotations

import base64
import json
import string

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.settings import values

LETTERS_AND_DIGITS = string.ascii_letters + string.digits


@pytest.mark.parametrize("raw", [900, "900", " 900 ", 900.0])
def test_a_duration_may_be_a_number_or_a_text(raw: object):
    assert values.duration(raw) == 900


@pytest.mark.parametrize("number", [900, 3600])
def test_both_ends_of_what_aws_accepts_are_durations(number: int):
    assert values.duration(number) == number


@pytest.mark.parametrize("number", [899, 3601, 0, -900])
def test_a_duration_that_aws_would_refuse_is_refused_with_the_range_and_the_value(number: int):
    with pytest.raises(ValueError, match=f"^must be between 900 and 3600 seconds, not {number}$"):
        values.duration(number)


@pytest.mark.parametrize(
    "raw", ["fast", "", "900.5", "15m", 900.5, True, None, [900], float("inf"), float("nan"), "9" * 5000, 10**400]
)
def test_a_duration_must_be_a_whole_number(raw: object):
    with pytest.raises(ValueError, match=r"^must be (a whole number of|between 900 and 3600) seconds"):
        values.duration(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(True, True), (False, False), ("true", True), ("false", False), ("True", True), (" FALSE ", False)],
)
def test_booleans_are_read_as_values_and_as_texts(raw: object, expected: bool):
    assert values.boolean(raw) is expected


@pytest.mark.parametrize("raw", ["yes", "1", "", 1, 0, None, "truee"])
def test_anything_but_true_or_false_is_refused(raw: object):
    with pytest.raises(ValueError, match=r"^must be true or false, not "):
        values.boolean(raw)


database_names = st.builds(
    str.__add__, st.sampled_from(string.ascii_letters), st.text(LETTERS_AND_DIGITS + "_+.@-", max_size=63)
)


@given(database_names)
def test_every_name_that_aws_accepts_is_a_database(name: str):
    assert values.database(name) == name


@given(database_names.filter(lambda name: name.lower() not in values.RESERVED))
def test_every_name_that_aws_accepts_is_a_database_user(name: str):
    assert values.db_user(name) == name


@given(st.builds(str.__add__, st.sampled_from(string.ascii_lowercase), st.text("abcxyz0189_+.@-", max_size=63)))
def test_every_name_that_aws_accepts_is_a_database_group(name: str):
    assert values.db_group(name) == name


@pytest.mark.parametrize("read", [values.db_user, values.database, values.db_group])
@pytest.mark.parametrize(
    "raw", ["", " ", "a" * 65, "1etl", "_etl", "a:b", "a/b", "a b", "a\nb", "étl", "a'b", 'a"b', "a;b", 7, None]
)
def test_names_that_aws_refuses_are_refused_with_the_rule(read, raw: object):
    with pytest.raises(ValueError, match=r"^must be a database \w+ as AWS accepts it: 1 to 64 "):
        read(raw)


def test_a_database_group_has_no_upper_case_letters():
    with pytest.raises(ValueError, match=r"lower-case letters.*not 'Analysts'"):
        values.db_group("Analysts")


@pytest.mark.parametrize("prefix", ["IAM:", "IAMA:", "IAMR:", "iam:"])
def test_a_database_user_with_the_prefix_of_aws_is_refused_with_the_bare_name(prefix: str):
    with pytest.raises(ValueError, match=r"AWS adds the prefix: write 'etl'$"):
        values.db_user(f"{prefix}etl")


@pytest.mark.parametrize("name", ["PUBLIC", "public", "Select", "user"])
def test_a_reserved_word_is_not_a_database_user(name: str):
    with pytest.raises(ValueError, match=f"must not be {name.upper()}, which AWS reserves"):
        values.db_user(name)


@pytest.mark.parametrize("raw", values.AUTH_METHODS)
def test_all_ways_of_authenticating_are_known(raw: str):
    assert values.auth(f" {raw} ") == raw


def test_a_misspelt_way_of_authenticating_is_refused_with_all_of_them_and_the_nearest():
    with pytest.raises(
        ValueError, match="must be one of auto, db-user, iam, secret, connector, not 'db_user'"
    ) as refused:
        values.auth("db_user")
    assert str(refused.value).endswith("(did you mean 'db-user'?)")


@pytest.mark.parametrize("raw", ["default", "custom-domain", "vpc:etl-endpoint", "vpc:a"])
def test_the_three_kinds_of_endpoint_are_read(raw: str):
    assert values.endpoint(f" {raw} ") == raw


@pytest.mark.parametrize("raw", ["", "vpc", "vpc:", "vpc:a b", "vpc:" + "a" * 31, "VPC:x", "custom_domain", None])
def test_other_endpoints_are_refused_with_the_three_kinds(raw: object):
    with pytest.raises(ValueError, match="must be default, custom-domain or vpc:<name"):
        values.endpoint(raw)


@pytest.mark.parametrize("raw", ["analytics", "a", "team/analytics", "a-b_c.d:e", "Reporting2", "a" * 250])
def test_conn_ids_are_read(raw: str):
    assert values.conn_id(raw) == raw


@pytest.mark.parametrize("raw", ["", "a b", "a+b", "a=b", "a@b", "a" * 251])
def test_what_airflow_or_aws_would_refuse_is_no_conn_id(raw: str):
    with pytest.raises(ValueError, match="must be a conn_id that both Airflow and AWS tags accept"):
        values.conn_id(raw)


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (values.conn_type, "redshift", "aws"),
        (values.conn_type, "postgres", "Postgres"),
        (values.team, "finance", "the finance"),
        (values.team, "team_a-1", "x" * 51),
        (values.region, "eu-west-1", "europe"),
        (values.region, "us-gov-west-1", "eu-west-1a"),
        (values.account, "012345678901", "12345678901"),
        (values.account, "123456789012", 123456789012),
        (values.tag_key, "größe", "a\tb"),
        (values.tag_value, "", "a;b"),
        (values.role_arn, "arn:aws:iam::123456789012:role/path/airflow", "arn:aws:iam::123456789012:user/airflow"),
        (values.role_arn, "arn:aws-cn:iam::123456789012:role/x", "airflow"),
    ],
)
def test_names_of_airflow_and_aws_are_checked(read, good: str, bad: object):
    assert read(good) == good
    with pytest.raises(ValueError, match=r"^must be ") as refused:
        read(bad)
    assert repr(bad) in str(refused.value)


@pytest.mark.parametrize(
    "raw", [["b", "a", "b"], ("b", "a"), '["b", "a"]', ' ["b", "a"]', "b a", "b,a", "b, a", " b  a b "]
)
def test_lists_keep_their_order_and_name_each_item_once_however_they_are_written(raw: object):
    assert values.db_groups(raw) == ("b", "a")


@pytest.mark.parametrize("raw", ["", [], "[]"])
def test_an_empty_list_is_a_list(raw: object):
    assert values.db_groups(raw) == ()


@pytest.mark.parametrize("raw", [{"a": 1}, 7, None])
def test_anything_but_a_list_is_refused(raw: object):
    with pytest.raises(ValueError, match=r"^must be a list, not "):
        values.db_groups(raw)


@pytest.mark.parametrize("raw", ['["a"', ["A"], [1], "a B"])
def test_a_list_with_one_bad_item_is_refused(raw: object):
    with pytest.raises(ValueError, match=r"^must be "):
        values.db_groups(raw)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=3))
def test_an_object_and_its_json_read_the_same(value: dict[str, object]):
    assert values.mapping(json.dumps(value)) == values.mapping(value) == value


@pytest.mark.parametrize("raw", ["hunter2", '["hunter2"]', '{"token": "hunter2"', ["hunter2"]])
def test_the_refusal_of_an_object_does_not_repeat_what_it_may_hold(raw: object):
    with pytest.raises(ValueError, match=r"^must be ") as refused:
        values.mapping(raw)
    assert "hunter2" not in str(refused.value)


def test_a_pattern_matches_from_the_start_and_without_case():
    pattern = values.pattern("redshift_")
    assert pattern.match("Redshift_sales")
    assert not pattern.match("my_redshift_sales")


def test_a_bad_pattern_is_refused_with_the_pattern_and_what_is_wrong_with_it():
    with pytest.raises(ValueError, match=r"must be a regular expression; 'red\(' is not one: missing \)"):
        values.pattern("red(")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("true", True),
        ("false", False),
        (" 30 ", 30),
        ("-1", -1),
        ("0", 0),
        ("007", "007"),
        ("1.5", "1.5"),
        ("verify-full", "verify-full"),
        ("9" * 30, "9" * 30),
        ("", ""),
    ],
)
def test_values_of_extra_mean_what_they_look_like(raw: str, expected: object):
    read = values.scalar(raw)
    assert (read, type(read)) == (expected, type(expected))


@pytest.mark.parametrize(
    "key", ["host", "HOST", " password ", "user", "dbname", "iam", "cluster_identifier", "service", "hostaddr"]
)
def test_extra_may_not_say_where_or_as_whom_to_connect(key: str):
    with pytest.raises(ValueError, match="would change where or as whom a driver connects"):
        values.extra({key: "evil"})


def test_extra_accepts_options_of_a_driver():
    assert values.extra('{"keepalives_idle": 30, "options": "-c x=y"}') == {"keepalives_idle": 30, "options": "-c x=y"}


@pytest.mark.parametrize("key", ["ssl", "sslmode", "SSLMode", "sslrootcert"])
def test_extra_may_not_say_how_the_server_is_checked(key: str):
    with pytest.raises(ValueError, match="the settings sslmode and sslrootcert say how"):
        values.extra({key: "disable"})


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("durations", ["duration", "database"], " (did you mean 'duration'?)"),
        ("DB-USER", ["db-user"], " (did you mean 'db-user'?)"),
        ("reporting", ["REPORTING"], " (did you mean 'REPORTING'?)"),
        ("zzz", ["duration"], ""),
        ("duration", [], ""),
    ],
)
def test_the_nearest_known_name_is_found_whatever_its_case(name: str, known: list[str], expected: str):
    assert values.nearest(name, known) == expected


KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()  # not random: it is part of the names of tests


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3))
def test_fernet_keys_are_read_as_airflow_writes_them(secrets: list[bytes]):
    keys = tuple(base64.urlsafe_b64encode(secret).decode() for secret in secrets)
    assert values.fernet_keys(" , ".join(keys)) == keys
    assert all(Fernet(key) for key in keys)


@pytest.mark.parametrize(
    "raw",
    ["", " ", KEY[:-1], KEY + "=", f"{KEY},", f"{KEY} {KEY}", f"{KEY},hunter2", "é" * 44, "!" * 44, [KEY], 7, None],
)
def test_anything_but_fernet_keys_is_refused_without_being_repeated(raw: object):
    with pytest.raises(
        ValueError, match=r"^must be one or more Fernet keys separated by commas; make one with"
    ) as refused:
        values.fernet_keys(raw)
    assert KEY not in str(refused.value)
    assert "hunter2" not in str(refused.value)
