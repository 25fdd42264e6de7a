"""Tags of a warehouse and settings of the site in, a connection spec out: tag beats setting beats default.

Pure. What cannot work becomes an error of that one spec, with the resource, the tag and the fix.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from redshift_secrets.errors import one_line
from redshift_secrets.lookup import tags
from redshift_secrets.model import Auth, ConnectionSpec, Warehouse
from redshift_secrets.settings import values
from redshift_secrets.settings.db_user import is_template
from redshift_secrets.settings.records import Host
from redshift_secrets.settings.settings import Settings

_SETTINGS = {
    "database": "database",
    "db-user": "db_user",
    "db-groups": "db_groups",
    "db-roles": "db_roles",
    "auto-create": "auto_create",
    "auth": "auth",
    "duration": "duration_seconds",
    "conn-type": "conn_type",
}
"""The setting behind each tag; the other tags have none."""

_NAMED_AT_LOGIN = {
    ("db-user", "cluster"): ("db-user", "db-groups", "auto-create"),
    ("connector", "cluster"): ("db-user", "db-groups", "auto-create"),
    ("iam", "cluster"): ("db-user", "db-groups"),
    ("iam", "workgroup"): ("db-user", "db-roles"),
}
"""What can be said of the user that logs in, by way of authenticating and kind of warehouse."""
_NOT_ON = {"cluster": ("clusters", ("db-roles",)), "workgroup": ("Serverless", ("db-groups", "auto-create"))}
"""Settings that mean nothing on this kind of warehouse."""

_DEFAULTS = Settings()


class _Chosen(Struct, frozen=True):
    value: Any
    source: str

    @property
    def by_tag(self) -> bool:
        return self.source.startswith("tag ")


def ineligible(warehouse: Warehouse, settings: Settings) -> str | None:
    """Return why a warehouse may not claim any conn_id on this site, `None` where it may."""
    # One whose account is not known is refused with that reason.
    if settings.allowed_accounts and warehouse.account and warehouse.account not in settings.allowed_accounts:
        return f"{warehouse} is ignored: its account is not among allowed_accounts"
    for key, value in settings.required_tags.items():
        if warehouse.tags.get(key) != value:
            return f"{warehouse} is ignored: required_tags asks for the tag {key} = {value}"
    return None


def build_spec(warehouse: Warehouse, conn_id: str, settings: Settings) -> ConnectionSpec:
    """Return the spec of `conn_id`, which the marker tag of `warehouse` must claim. Never raises for what tags say."""
    tagged = tags.read(warehouse.tags, conn_id, settings.tag_prefix)
    chosen = {name: _choose(name, tagged, warehouse, settings) for name in tags.FIELDS}
    errors, warnings = list(tagged.errors), list(tagged.warnings)
    if "identity" in warehouse.unknown:
        errors.append(f"it cannot be told what to log in to: {warehouse.unknown['identity']}")
    elif not tagged.errors:
        # With a value that cannot be read, any statement on how the values go together would be a guess.
        more_errors, more_warnings = _contradictions(chosen, warehouse, settings)
        errors += more_errors
        warnings += more_warnings
    conn_type = chosen["conn-type"].value or settings.conn_type
    own = None
    if not chosen["endpoint"].by_tag:
        own = settings.hosts.get(warehouse.arn) or settings.hosts.get(warehouse.identifier)
    sslmode = _sslmode(own, settings)
    extra, sources_of_extra = _extra(tagged, conn_type, sslmode, settings)
    errors += _problems_of_extra(tagged, conn_type, sslmode)
    # What could not be read has its own message.
    if conn_type == "redshift" and extra["sslmode"] not in ("verify-full", "verify-ca", None):
        warnings.append(
            f"sslmode = {extra['sslmode']}: RedshiftSQLHook cannot connect, its driver takes verify-full and verify-ca alone"
        )
    if conn_type == "redshift" and own is not None and ":" in own.host:
        warnings.append(
            f"setting hosts: RedshiftSQLHook cannot connect to the IPv6 address {own.host}, its driver connects over IPv4 alone"
        )
    auth = _resolve_auth(chosen, warehouse)
    session_role = _session_role(chosen, warehouse, settings)
    names_user = session_role is not None or auth in ("db-user", "connector")
    db_user = chosen["db-user"].value if warehouse.kind == "cluster" or session_role is not None else None
    sources = {name.replace("-", "_"): choice.source for name, choice in chosen.items()}
    if own is not None:
        sources["endpoint"] = "setting hosts"
    if chosen["auth"].value == "auto":
        why = "no database user is known" if auth == "iam" else "a database user is known"
        if warehouse.kind == "workgroup":
            why = "Serverless has no other"
        sources["auth"] = f"{chosen['auth'].source}: auto, {why}"
    return ConnectionSpec(
        conn_id=conn_id,
        warehouse=warehouse,
        auth=auth,
        endpoint=chosen["endpoint"].value or "default",
        database=chosen["database"].value or warehouse.database,
        db_user=db_user,
        db_groups=chosen["db-groups"].value or (),
        auto_create=bool(chosen["auto-create"].value),
        duration=chosen["duration"].value or settings.duration_seconds,
        conn_type=conn_type,
        team=chosen["team"].value,
        extra=extra,
        own_address=None if own is None else (own.host, own.port),
        db_roles=chosen["db-roles"].value or (),
        session_role_arn=session_role,
        per_dag=names_user and is_template(db_user),
        sources={**sources, **sources_of_extra},
        errors=tuple(one_line(f"{error} (on {warehouse})") for error in errors),
        warnings=tuple(one_line(f"{warning} (on {warehouse})") for warning in warnings),
    )


def _choose(name: str, tagged: tags.TaggedConnection, warehouse: Warehouse, settings: Settings) -> _Chosen:
    tag = tagged.fields.get(name)
    if tag is not None:
        return _Chosen(tag.value, f"tag {tag.key}")
    setting = _SETTINGS.get(name)
    if setting is not None and getattr(settings, setting) != getattr(_DEFAULTS, setting):
        where, settings_without_meaning = _NOT_ON[warehouse.kind]
        if name in settings_without_meaning:
            return _Chosen(None, f"default (setting {setting} does not apply to {where})")
        if warehouse.kind == "workgroup" and name == "auth" and settings.auth == "db-user":
            return _Chosen("iam", "default (setting auth = db-user does not apply to Serverless)")
        return _Chosen(getattr(settings, setting), f"setting {setting}")
    if name == "database":
        return _Chosen(warehouse.database, f"default: the {warehouse.kind}'s own database")
    if name == "endpoint":
        return _Chosen("default", "default")
    return _Chosen(getattr(settings, setting) if setting else None, "default")


def _sslmode(own: Host | None, settings: Settings) -> _Chosen:
    """What the settings say of this warehouse."""
    if own is not None and own.sslmode is not None:
        return _Chosen(own.sslmode, "setting hosts")
    return _Chosen(settings.sslmode, "default" if settings.sslmode == _DEFAULTS.sslmode else "setting sslmode")


def _extra(
    tagged: tags.TaggedConnection, conn_type: str, sslmode: _Chosen, settings: Settings
) -> tuple[dict[str, object], dict[str, str]]:
    """Return `extra`, and where each key of it comes from."""
    extra = dict(settings.extra)
    sources = dict.fromkeys(extra, "setting extra")
    extra["sslmode"] = sslmode.value
    sources["sslmode"] = sslmode.source
    if settings.sslrootcert is not None and conn_type == "postgres":  # redshift_connector does not know this key
        extra["sslrootcert"] = settings.sslrootcert
        sources["sslrootcert"] = "setting sslrootcert"
    for key, value in tagged.extra.items():
        extra[key] = value.value
        sources[key] = f"tag {value.key}"
    return extra, {f"extra.{key}": source for key, source in sources.items()}


def _problems_of_extra(tagged: tags.TaggedConnection, conn_type: str, sslmode: _Chosen) -> list[str]:
    """What a tag must not do: change where, as whom or with how little protection a driver connects."""
    may_set = tags.EXTRA_KEYS.get(conn_type, frozenset())
    problems = [
        f"tag {value.key}: a tag must not set {key!r} on a connection of type {conn_type}, only"
        f" {', '.join(sorted(may_set)) or 'no key at all'}: with any other key a driver might connect elsewhere, as somebody"
        f" else or unprotected{values.nearest(key, may_set)}. The setting extra can set it"
        for key, value in tagged.extra.items()
        # One that could not be read has its own message.
        if key not in may_set and value.value is not None
    ]
    tag = tagged.extra.get("sslmode")
    if tag is not None and tag.value is not None:
        strength = values.SSL_MODES.index
        if strength(str(tag.value)) < strength(sslmode.value):
            setting = "hosts, sslmode" if sslmode.source == "setting hosts" else "sslmode"
            problems.append(
                f"tag {tag.key} = {tag.value} is weaker than the setting {setting} = {sslmode.value}: a tag may only tighten"
                " it. Remove the tag, or change the setting"
            )
    return problems


def _resolve_auth(chosen: dict[str, _Chosen], warehouse: Warehouse) -> Auth:
    auth: Any = chosen["auth"].value
    if auth in ("db-user", "iam", "secret", "connector"):
        return auth  # type: ignore[no-any-return]  # narrowed by the line above
    return "db-user" if chosen["db-user"].value and warehouse.kind == "cluster" else "iam"


def _role(warehouse: Warehouse, settings: Settings) -> str | None:
    """The role that is configured for the account of a warehouse."""
    return warehouse.role_arn or settings.role_arn


def _session_role(chosen: dict[str, _Chosen], warehouse: Warehouse, settings: Settings) -> str | None:
    """The role whose session tags name the user, `None` where the user is not named by tags of a session."""
    if _resolve_auth(chosen, warehouse) != "iam":
        return None
    names = _NAMED_AT_LOGIN["iam", warehouse.kind]
    return _role(warehouse, settings) if any(chosen[name].value for name in names) else None


def _contradictions(
    chosen: dict[str, _Chosen], warehouse: Warehouse, settings: Settings
) -> tuple[list[str], list[str]]:
    """Values that cannot work together: errors, and warnings for what has no effect."""
    errors: list[str] = []
    warnings: list[str] = []
    auth, user, endpoint = chosen["auth"], chosen["db-user"], chosen["endpoint"]
    serverless = warehouse.kind == "workgroup"
    if auth.value == "db-user" and serverless:
        errors.append(
            f"{auth.source} = db-user cannot work: Serverless logs in as the user of an IAM identity. Use iam, with which a"
            " role that is configured can name the user, or remove it"
        )
    elif auth.value == "db-user" and user.value is None:
        errors.append(
            f"{auth.source} = db-user needs a database user: add the tag {settings.tag_prefix}db-user or the setting db_user"
        )
    if not errors:
        resolved = _resolve_auth(chosen, warehouse)
        if resolved == "iam":
            errors += _session_tag_problems(chosen, warehouse, settings)
        used = _NAMED_AT_LOGIN.get((resolved, warehouse.kind), ())
        warnings += [
            f"{chosen[name].source} has no effect: auth is {resolved} and the warehouse a {warehouse.kind}"
            + (f"; use {settings.tag_prefix}{instead}" if instead in used else "")
            for name, instead in (
                ("db-user", ""),
                ("db-groups", "db-roles"),
                ("db-roles", "db-groups"),
                ("auto-create", ""),
            )
            if chosen[name].by_tag and name not in used
        ]
    if "database" in warehouse.unknown and not chosen["database"].value:
        errors.append(
            f"its database is not known: {warehouse.unknown['database'].removesuffix('.')}. Or name the database, with the tag"
            f" {settings.tag_prefix}database or the setting database"
        )
    if auth.value == "secret":
        errors += _secret_problems(auth, warehouse, settings)
    if auth.value == "connector":
        role_arn = _role(warehouse, settings)
        if role_arn is not None:
            errors.append(
                f"{auth.source} = connector cannot work: the driver mints as the AWS identity of the task, and this"
                f" warehouse is reached through {role_arn}. Use db-user or iam"
            )
        elif settings.profile_name is not None:
            errors.append(
                f"{auth.source} = connector cannot work: RedshiftSQLHook mints as the AWS identity of its own AWS connection,"
                " not as that of the setting profile_name. Use db-user or iam, or set AWS_PROFILE instead"
            )
        elif user.value is None and not serverless:
            errors.append(
                f"{auth.source} = connector needs a database user: add the tag {settings.tag_prefix}db-user or the"
                " setting db_user"
            )
    if endpoint.value == "custom-domain" and not warehouse.custom_domain:
        errors.append(
            f"{endpoint.source} = custom-domain: AWS has no custom domain for it. Associate one, or remove the tag"
        )
    if str(endpoint.value).startswith("vpc:"):
        errors += _vpc_endpoint_problems(endpoint, warehouse)
    if chosen["duration"].value <= settings.min_validity_seconds and auth.value != "connector":
        errors.append(
            f"{chosen['duration'].source} = {chosen['duration'].value} must be more than min_validity_seconds"
            f" ({settings.min_validity_seconds}): no credential would ever be valid for long enough"
        )
    return errors, warnings


def _session_tag_problems(chosen: dict[str, _Chosen], warehouse: Warehouse, settings: Settings) -> list[str]:
    """https://docs.aws.amazon.com/redshift/latest/mgmt/redshift-iam-access-federated-db-roles.html"""
    named = [chosen[name] for name in _NAMED_AT_LOGIN["iam", warehouse.kind] if chosen[name].value]
    if _role(warehouse, settings) is None:
        # A setting that clusters use in another way asks for nothing here.
        asking = [choice for choice in named if choice.by_tag or choice.source == "setting db_roles"]
        if not asking:
            return []
        what, instead = "Serverless", ""
        if warehouse.kind == "cluster":
            what, instead = "auth = iam", " use db-user,"
        return [
            f"{' and '.join(choice.source for choice in asking)} cannot be honoured: {what} takes it as a session tag of an"
            f" assumed role alone, and no role is configured for account {warehouse.account}. Set role_arn to a role there"
            f" whose trust policy allows sts:TagSession,{instead} or remove it"
        ]
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    others = len(settings.assume_role_kwargs.get("Tags", ())) if warehouse.role_arn is None else 0
    if named and others + len(named) > values.MOST_TAGS:
        return [
            f"{' and '.join(choice.source for choice in named)} cannot be honoured: with {others} Tags in assume_role_kwargs there would be"
            f" more than the {values.MOST_TAGS} session tags that AWS allows. Name fewer there"
        ]
    return [
        f"{choice.source} has {length} characters as a session tag, and AWS allows {values.LONGEST_TAG_VALUE}: name fewer"
        for choice in named
        if not isinstance(choice.value, str) and (length := len(":".join(choice.value))) > values.LONGEST_TAG_VALUE
    ]


def _secret_problems(auth: _Chosen, warehouse: Warehouse, settings: Settings) -> list[str]:
    if not settings.allow_admin_secret:
        return [
            f"{auth.source} = secret is refused: it logs in as the admin user, and the setting allow_admin_secret is not"
            " true. Use db-user or iam, or set allow_admin_secret"
        ]
    if "admin_secret_arn" in warehouse.unknown:
        return [f"{auth.source} = secret: its admin secret is not known: {warehouse.unknown['admin_secret_arn']}"]
    if warehouse.admin_secret_arn is None:
        return [f"{auth.source} = secret cannot work: AWS does not manage its admin password in Secrets Manager"]
    return []


def _vpc_endpoint_problems(endpoint: _Chosen, warehouse: Warehouse) -> list[str]:
    name = str(endpoint.value).removeprefix("vpc:")
    if any(known.name == name for known in warehouse.vpc_endpoints):
        return []
    if "vpc_endpoints" in warehouse.unknown:
        why = warehouse.unknown["vpc_endpoints"]
        return [f"{endpoint.source} = {endpoint.value}: its VPC endpoints could not be read: {why}"]
    known = ", ".join(known.name for known in warehouse.vpc_endpoints) or "none"
    return [
        f"{endpoint.source} = {endpoint.value}: it has no Redshift-managed VPC endpoint of that name (it has: {known})"
    ]
