"""docs/contract.md, "Tags" and "Ways of authenticating": tag beats setting beats default, and what cannot work."""

from __future__ import annotations

import logging

import pytest

from redshift_secrets.lookup.spec import build_spec, ineligible
from redshift_secrets.model import ConnectionSpec, VpcEndpoint, Warehouse
from redshift_secrets.settings import Settings
from tests.support.fakes import Clock, cluster, workgroup
from tests.support.helpers import Site

ROLE = "arn:aws:iam::210987654321:role/airflow"
P = "airflow:"
KINDS = {"cluster": cluster, "workgroup": workgroup}
both_kinds = pytest.mark.parametrize("kind", KINDS)


def build(
    tags: dict[str, str] | None = None,
    settings: dict[str, object] | None = None,
    kind: str = "cluster",
    conn_id: str = "analytics",
    **warehouse: object,
) -> ConnectionSpec:
    """The spec of a warehouse with these tags (without their prefix) on a site with these settings."""
    tagged = {P + "conn-id": conn_id, **{P + name: value for name, value in (tags or {}).items()}}
    return build_spec(KINDS[kind](tags=tagged, **warehouse), conn_id, Settings.from_kwargs(settings or {}))


def only_error(spec: ConnectionSpec) -> str:
    (error,) = spec.errors
    assert error.endswith(f" (on {spec.warehouse})")
    return error


# --- defaults, settings, tags


@both_kinds
def test_without_tags_and_settings_every_field_has_the_default_of_the_contract(kind: str):
    spec = build(kind=kind)
    assert (spec.errors, spec.warnings) == ((), ())
    assert (spec.conn_id, spec.auth, spec.endpoint, spec.database) == ("analytics", "iam", "default", "dev")
    assert (spec.db_user, spec.db_groups, spec.auto_create, spec.duration) == (None, (), False, 3600)
    assert (spec.conn_type, spec.team, spec.extra) == ("redshift", None, {"sslmode": "verify-full"})
    assert all("default" in source for source in spec.sources.values())


def test_the_default_database_is_that_of_the_warehouse():
    spec = build(database="warehouse_db")
    assert (spec.database, spec.sources["database"]) == ("warehouse_db", "default: the cluster's own database")


CHOICES = [
    ("database", "database", "database", "by_setting", "by_setting", "by_tag", "by_tag"),
    ("db-user", "db_user", "db_user", "by_setting", "by_setting", "by_tag", "by_tag"),
    ("db-groups", "db_groups", "db_groups", ["a", "b"], ("a", "b"), "c d", ("c", "d")),
    ("auto-create", "auto_create", "auto_create", True, True, "false", False),
    ("auth", "auth", "auth", "connector", "connector", "iam", "iam"),
    ("duration", "duration_seconds", "duration", 1800, 1800, "900", 900),
    ("conn-type", "conn_type", "conn_type", "postgres", "postgres", "redshift", "redshift"),
]


@pytest.mark.parametrize(("tag", "setting", "field", "set_to", "by_setting", "tagged", "by_tag"), CHOICES)
def test_a_tag_beats_a_setting_beats_the_default(tag, setting, field, set_to, by_setting, tagged, by_tag):
    settings = {"db_user": "etl", "min_validity_seconds": 300, setting: set_to}
    spec = build(settings=settings)
    assert (getattr(spec, field), spec.sources[field], spec.errors) == (by_setting, f"setting {setting}", ())
    spec = build({tag: tagged}, settings)
    assert (getattr(spec, field), spec.sources[field], spec.errors) == (by_tag, f"tag {P}{tag}", ())
    spec = build({tag: "@ @", f"{tag}/analytics": tagged}, settings)
    assert (getattr(spec, field), spec.sources[field]) == (by_tag, f"tag {P}{tag}/analytics")
    assert spec.errors == ()


@pytest.mark.parametrize(
    ("tag", "field", "value"), [("team", "team", "finance"), ("endpoint", "endpoint", "custom-domain")]
)
def test_a_field_without_a_setting_is_set_by_its_tag(tag: str, field: str, value: str):
    spec = build({tag: value}, custom_domain="dwh.example.com")
    assert (getattr(spec, field), spec.sources[field], spec.errors) == (value, f"tag {P}{tag}", ())


def test_extra_is_merged_key_by_key():
    settings = {"extra": {"application_name": "etl", "timeout": 5}}
    spec = build({"extra.application_name": "nightly", "extra.tcp_keepalive": "true"}, settings)
    assert spec.extra == {"application_name": "nightly", "timeout": 5, "tcp_keepalive": True, "sslmode": "verify-full"}
    assert {key: source for key, source in spec.sources.items() if key.startswith("extra.")} == {
        "extra.application_name": f"tag {P}extra.application_name",
        "extra.sslmode": "default",
        "extra.timeout": "setting extra",
        "extra.tcp_keepalive": f"tag {P}extra.tcp_keepalive",
    }


def test_two_conn_ids_of_one_cluster_may_differ_in_user_database_and_groups():
    tags = {
        P + "conn-id": "analytics reporting",
        P + "db-user": "airflow_etl",
        P + "db-user/reporting": "bi_readonly",
        P + "database/reporting": "bi",
        P + "db-groups/reporting": "readers",
    }
    warehouse = cluster(tags=tags)
    built = [build_spec(warehouse, conn_id, Settings()) for conn_id in ("analytics", "reporting")]
    assert [(s.db_user, s.database, s.db_groups, s.errors) for s in built] == [
        ("airflow_etl", "dev", (), ()),
        ("bi_readonly", "bi", ("readers",), ()),
    ]


def test_the_error_of_a_malformed_tag_names_resource_tag_and_fix():
    error = only_error(build({"duration": "fast"}))
    assert error == f"tag {P}duration must be a whole number of seconds, not 'fast' (on {cluster()})"
    assert str(cluster()) == "cluster prod (account 123456789012, eu-west-1)"


def test_an_unknown_tag_is_a_warning_with_the_resource():
    spec = build({"db-usr": "etl"})
    assert spec.errors == ()
    assert spec.warnings == (
        f"tag {P}db-usr: unknown field 'db-usr' (did you mean 'db-user'?); the tag is ignored (on {cluster()})",
    )


@pytest.mark.parametrize("word", ["stream", "tenant", "term", "temp", "item", "dream"])
def test_a_connection_with_a_tag_that_resembles_team_is_served(word: str, caplog: pytest.LogCaptureFixture):
    assert Site(Clock(), cluster(tags={P + "conn-id": "analytics", P + word: "x"})).ask() is not None
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith(f"connection 'analytics': tag {P}{word}: unknown field {word!r}")


def test_an_unknown_tag_is_logged_once_where_the_connection_is_used(caplog: pytest.LogCaptureFixture):
    here = Site(Clock(), cluster(tags={P + "conn-id": "analytics other", P + "db-usr": "etl"}))
    with caplog.at_level(logging.WARNING):
        answers = [here.ask() for _ in range(3)]
    assert None not in answers
    (message,) = [record.getMessage() for record in caplog.records if "db-usr" in record.getMessage()]
    assert message.startswith(f"connection 'analytics': tag {P}db-usr: unknown field")


def test_with_a_malformed_tag_contradictions_are_not_reported():
    assert f"tag {P}auth must be one of" in only_error(build({"auth": "dbuser", "endpoint": "vpc:missing"}))


# --- ways of authenticating


@pytest.mark.parametrize(
    ("kind", "tags", "settings", "expected"),
    [
        ("cluster", {}, {}, "iam"),
        ("cluster", {"db-user": "etl"}, {}, "db-user"),
        ("cluster", {}, {"db_user": "etl"}, "db-user"),
        ("cluster", {"auth": "auto"}, {"db_user": "etl", "auth": "iam"}, "db-user"),
        ("cluster", {"auth": "iam"}, {"db_user": "etl"}, "iam"),
        ("cluster", {"auth": "db-user"}, {"db_user": "etl", "auth": "iam"}, "db-user"),
        ("cluster", {"auth": "connector"}, {"db_user": "etl"}, "connector"),
        ("workgroup", {}, {}, "iam"),
        ("workgroup", {}, {"db_user": "etl"}, "iam"),
        ("workgroup", {}, {"db_user": "etl", "auth": "db-user"}, "iam"),
        ("workgroup", {"auth": "iam"}, {}, "iam"),
        ("workgroup", {"auth": "iam", "db-user": "etl"}, {"role_arn": ROLE}, "iam"),
        ("workgroup", {"auth": "connector"}, {}, "connector"),
    ],
)
def test_the_way_of_authenticating(kind: str, tags: dict[str, str], settings: dict[str, object], expected: str):
    spec = build(tags, settings, kind)
    assert (spec.auth, spec.errors) == (expected, ())


@both_kinds
def test_the_admin_secret_is_used_where_the_site_allows_it(kind: str):
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:redshift!prod"
    spec = build({"auth": "secret"}, {"allow_admin_secret": True}, kind, admin_secret_arn=secret)
    assert (spec.auth, spec.errors) == ("secret", ())


@pytest.mark.attempt("log in as the admin user by a tag")
@both_kinds
def test_the_admin_secret_is_off_unless_the_site_allows_it(kind: str):
    error = only_error(build({"auth": "secret"}, kind=kind, admin_secret_arn="arn:aws:secretsmanager:x"))
    assert f"tag {P}auth = secret is refused" in error
    assert "set allow_admin_secret" in error


@both_kinds
def test_without_a_managed_admin_secret_auth_secret_is_refused(kind: str):
    error = only_error(build({"auth": "secret"}, {"allow_admin_secret": True}, kind))
    assert "AWS does not manage its admin password in Secrets Manager" in error


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("cluster", {}, "default: auto, no database user is known"),
        ("cluster", {"db_user": "etl"}, "default: auto, a database user is known"),
        ("workgroup", {}, "default: auto, Serverless has no other"),
    ],
)
def test_the_source_of_auth_says_why_auto_chose_it(kind: str, settings: dict[str, object], why: str):
    assert build(settings=settings, kind=kind).sources["auth"] == why


@pytest.mark.parametrize(
    ("setting", "value", "field", "expected"),
    [
        ("db_groups", ["a"], "db_groups", ()),
        ("auto_create", True, "auto_create", False),
    ],
)
def test_settings_of_clusters_do_not_apply_to_serverless(setting, value, field, expected):
    spec = build(settings={setting: value}, kind="workgroup")
    assert (getattr(spec, field), spec.errors, spec.warnings) == (expected, (), ())
    assert spec.sources[field] == f"default (setting {setting} does not apply to Serverless)"


def test_the_setting_db_roles_does_not_apply_to_clusters():
    spec = build(settings={"db_roles": "readers", "auth": "iam", "role_arn": ROLE})
    assert (spec.db_roles, spec.session_role_arn, spec.errors, spec.warnings) == ((), None, (), ())
    assert spec.sources["db_roles"] == "default (setting db_roles does not apply to clusters)"


# --- what cannot work together


@pytest.mark.parametrize(
    ("kind", "tags", "settings", "message"),
    [
        ("cluster", {"auth": "db-user"}, {}, f"tag {P}auth = db-user needs a database user"),
        ("cluster", {}, {"auth": "db-user"}, "setting auth = db-user needs a database user"),
        ("cluster", {"auth": "connector"}, {}, f"tag {P}auth = connector needs a database user"),
        ("workgroup", {"auth": "db-user"}, {}, f"tag {P}auth = db-user cannot work: Serverless logs in as"),
        ("cluster", {"endpoint": "custom-domain"}, {}, "AWS has no custom domain"),
        ("cluster", {"endpoint": "vpc:bi"}, {}, "no Redshift-managed VPC endpoint of that name (it has: none)"),
        (
            "cluster",
            {"duration": "900"},
            {"min_validity_seconds": 900},
            f"tag {P}duration = 900 must be more than min_validity_seconds (900)",
        ),
    ],
)
def test_contradictory_values_fail_that_connection_with_the_fix(kind, tags, settings, message: str):
    assert message in only_error(build(tags, settings, kind))


@pytest.mark.parametrize(("settings", "changes"), [({}, {"role_arn": ROLE}), ({"role_arn": ROLE}, {})])
def test_the_driver_cannot_assume_a_role(settings, changes):
    error = only_error(build({"auth": "connector"}, {"db_user": "etl", **settings}, **changes))
    assert f"this warehouse is reached through {ROLE}. Use db-user or iam" in error


@both_kinds
def test_the_hook_does_not_mint_as_a_profile_of_the_settings(kind: str):
    error = only_error(build({"auth": "connector"}, {"db_user": "etl", "profile_name": "prod"}, kind))
    assert "RedshiftSQLHook mints as the AWS identity of its own AWS connection, not as that of the setting" in error


def test_a_duration_does_not_matter_where_the_driver_mints():
    spec = build({"auth": "connector", "duration": "900"}, {"db_user": "etl", "min_validity_seconds": 900})
    assert spec.errors == ()


@pytest.mark.parametrize(
    ("kind", "auth", "tag", "instead"),
    [
        ("cluster", "iam", "auto-create", ""),
        ("cluster", "iam", "db-roles", f"; use {P}db-groups"),
        ("cluster", "db-user", "db-roles", f"; use {P}db-groups"),
        ("cluster", "secret", "db-user", ""),
        ("cluster", "secret", "db-groups", ""),
        ("cluster", "secret", "db-roles", ""),
        ("workgroup", "iam", "auto-create", ""),
        ("workgroup", "iam", "db-groups", f"; use {P}db-roles"),
        ("workgroup", "connector", "db-user", ""),
        ("workgroup", "connector", "db-groups", ""),
        ("workgroup", "connector", "db-roles", ""),
    ],
)
def test_a_tag_without_effect_is_a_warning(kind: str, auth: str, tag: str, instead: str):
    value = {"db-user": "etl", "auto-create": "true"}.get(tag, "loaders")
    settings = {"allow_admin_secret": True, **({"db_user": "etl"} if auth == "db-user" else {})}
    spec = build({"auth": auth, tag: value}, settings, kind, admin_secret_arn="arn:aws:secretsmanager:x")
    (warning,) = spec.warnings
    assert warning == (
        f"tag {P}{tag} has no effect: auth is {auth} and the warehouse a {kind}{instead} (on {spec.warehouse})"
    )
    assert spec.errors == ()
    assert spec.session_role_arn is None


def test_a_serverless_connection_has_no_database_user():
    assert build({"auth": "connector", "db-user": "etl"}, kind="workgroup").db_user is None


# --- endpoints

VPC = (VpcEndpoint("etl", "etl.vpce.example.com", 5440), VpcEndpoint("bi", "bi.vpce.example.com", 5441))


@both_kinds
@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        (None, ("own.example.com", 5439)),
        ("default", ("own.example.com", 5439)),
        ("custom-domain", ("dwh.example.com", 5439)),
        ("vpc:bi", ("bi.vpce.example.com", 5441)),
    ],
)
def test_the_endpoint_decides_the_address(kind: str, endpoint: str | None, address: tuple[str, int]):
    tags = {"endpoint": endpoint} if endpoint else {}
    spec = build(tags, kind=kind, host="own.example.com", port=5439, custom_domain="dwh.example.com", vpc_endpoints=VPC)
    assert (spec.address, spec.errors) == (address, ())


def test_a_missing_vpc_endpoint_is_refused_with_the_existing_ones():
    error = only_error(build({"endpoint": "vpc:reporting"}, vpc_endpoints=VPC))
    assert f"tag {P}endpoint = vpc:reporting" in error
    assert "(it has: etl, bi)" in error


def test_vpc_endpoints_that_could_not_be_read_are_refused_with_the_reason():
    error = only_error(build({"endpoint": "vpc:bi"}, unknown={"vpc_endpoints": "AccessDenied"}))
    assert "its VPC endpoints could not be read: AccessDenied" in error


def test_one_endpoint_for_one_conn_id():
    tags = {P + "conn-id": "analytics reporting", P + "endpoint/reporting": "vpc:bi"}
    warehouse = cluster(tags=tags, vpc_endpoints=VPC)
    reporting, analytics = (build_spec(warehouse, conn_id, Settings()) for conn_id in ("reporting", "analytics"))
    assert (reporting.address, analytics.endpoint) == (("bi.vpce.example.com", 5441), "default")


def test_a_warehouse_without_an_endpoint_has_no_address():
    assert build(host=None, port=None).address is None


# --- which warehouses may claim a conn_id


@pytest.mark.parametrize(
    ("settings", "warehouse", "expected"),
    [
        ({}, cluster(), None),
        ({"allowed_accounts": ["123456789012", "210987654321"]}, cluster(), None),
        ({"allowed_accounts": ["210987654321"]}, cluster(), "its account is not among allowed_accounts"),
        ({"required_tags": {"env": "prod"}}, cluster(tags={"env": "prod", "more": "x"}), None),
        (
            {"required_tags": {"env": "prod"}},
            cluster(tags={"env": "test"}),
            "required_tags asks for the tag env = prod",
        ),
        ({"required_tags": {"env": "prod"}}, cluster(tags={}), "required_tags asks for the tag env = prod"),
        ({"required_tags": {"env": ""}}, cluster(tags={}), "required_tags asks for the tag env"),
        (
            {"required_tags": {"env": "prod", "owner": "data"}},
            workgroup(tags={"env": "prod"}),
            "required_tags asks for the tag owner = data",
        ),
    ],
)
def test_required_tags_and_allowed_accounts_limit_which_warehouses_may_claim_a_conn_id(
    settings: dict[str, object], warehouse: Warehouse, expected: str | None
):
    reason = ineligible(warehouse, Settings.from_kwargs(settings))
    if expected is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.startswith(f"{warehouse} is ignored: ")
        assert expected in reason
