"""The setting `db_user` as a template, which gives each DAG a database user of its own. Pure.

    etl_{dag_id}        the DAG `sales` logs in as etl_sales
    {team}.{dag_id}     the DAG `sales` of the team `finance` logs in as finance.sales

Two DAGs must never share a user, so a name that does not fit is refused, never truncated or changed.
"""

from __future__ import annotations

import string

from redshift_secrets.model import TaskContext
from redshift_secrets.settings import values

_PLACEHOLDERS = ("dag_id", "team")
_SEPARATORS = ".+@"
"""What a database user may contain and a team name may not."""


def is_template(db_user: str | None) -> bool:
    """Whether the database user depends on the DAG: no database user that AWS accepts has a brace in it."""
    return db_user is not None and "{" in db_user


def parse(raw: object) -> str:
    """A database user, or a template of one over `{dag_id}` and `{team}`."""
    if not isinstance(raw, str) or not set("{}") & set(raw):
        return values.db_user(raw)
    template = raw.strip()
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise ValueError(f"has a brace that is not part of {{dag_id}} or {{team}}: {template!r}") from None
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, form, conversion in parts:
        if name is not None and (name not in _PLACEHOLDERS or form or conversion):
            raise ValueError(
                f"may only contain {{dag_id}} and {{team}}, as they are, not {template!r}"
                f"{values.nearest(name, _PLACEHOLDERS)}"
            )
    if not names or "{{" in template or "}}" in template:
        raise ValueError(f"has a brace that is not part of {{dag_id}} or {{team}}: {template!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"must not contain the same placeholder twice: {template!r}")
    if len(names) == 2:
        between = parts[[name is not None for _, name, _, _ in parts].index(True) + 1][0]
        if not set(between) & set(_SEPARATORS):
            raise ValueError(
                f"must have one of {' '.join(_SEPARATORS)} between {{team}} and {{dag_id}}, which no team name contains:"
                f" with {template!r} the team a_b with the DAG c and the team a with the DAG b_c could share a user"
            )
    values.db_user(template.format(dag_id="d", team="t"))
    if template != template.lower():
        raise ValueError(f"must be in lower case, as Redshift folds names to it, not {template!r}")
    return template


def render(template: str, task: TaskContext) -> str:
    """Return the database user of a task. Raises `ValueError`, with the end of a sentence that begins with the origin of
    the template, where the DAG is not known or its name does not fit."""
    wanted = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if "dag_id" in wanted and task.dag_id is None:
        raise ValueError(
            f"= {template} needs the DAG, which is only known while a task runs that resolves its connections itself, on"
            " the worker and not while its templates are rendered. Resolve there, or name one user for all"
        )
    if "team" in wanted and task.team is None:
        raise ValueError(
            f"= {template} needs the team, and this lookup has none. Give the DAG's bundle a team, or name one user for all"
        )
    name = template.format(dag_id=task.dag_id, team=task.team and task.team.lower())
    whose = " and ".join(f"{each} {getattr(task, each)!r}" for each in _PLACEHOLDERS if each in wanted)
    try:
        if name != name.lower():
            raise ValueError(
                f"must be in lower case, as Redshift folds names to it and two DAGs could share a user, not {name!r}"
            )
        if name != name.strip():
            raise ValueError(f"must not begin or end with a space, as {name!r} does")
        return values.db_user(name)
    except ValueError as error:
        raise ValueError(
            f"= {template} does not give a valid database user for {whose}: it {error}. Rename it, or name one user for all"
        ) from None
