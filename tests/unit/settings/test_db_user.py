"""The setting `db_user` as a template: a database user for each DAG, and never the same for two."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redshift_secrets.model import TaskContext
from redshift_secrets.settings import db_user as db_users
from redshift_secrets.settings import values

names = st.text(st.sampled_from("ab_-.+@"), min_size=1, max_size=6)
teams = st.text(st.sampled_from("ab_-"), min_size=1, max_size=4)


def login_user(template, task):
    try:
        return db_users.render(db_users.parse(template), task)
    except ValueError:
        return None


class TestReading:
    @pytest.mark.parametrize("template", ["etl_{dag_id}", "{dag_id}", "{team}.{dag_id}", "x{dag_id}@{team}", "{team}"])
    def test_templates_of_dag_and_team_are_accepted_as_they_are(self, template):
        assert db_users.parse(f" {template} ") == template
        assert db_users.is_template(template)

    def test_a_database_user_without_placeholders_is_no_template(self):
        assert db_users.parse("airflow_etl") == "airflow_etl"
        assert not db_users.is_template("airflow_etl")
        assert not db_users.is_template(None)

    @pytest.mark.parametrize(
        ("template", "why"),
        [
            ("etl_{dag}", r"may only contain .* \(did you mean 'dag_id'\?\)"),
            ("etl_{}", "may only contain"),
            ("etl_{dag_id.__class__}", "may only contain"),
            ("etl_{dag_id!r}", "may only contain"),
            ("etl_{dag_id:>9}", "may only contain"),
            ("etl_{dag_id", "has a brace that is not part of"),
            ("etl_dag_id}", "has a brace that is not part of"),
            ("etl_{{dag_id}}", "has a brace that is not part of"),
            ("{{x}}{dag_id}", "has a brace that is not part of"),
            ("{dag_id}{dag_id}", "same placeholder twice"),
            ("{team}_{dag_id}", "must have one of"),
            ("{dag_id}{team}", "must have one of"),
            ("ETL_{dag_id}", "must be in lower case"),
            ("9_{dag_id}", "the first a letter"),
            ("etl {dag_id}", "as AWS accepts it"),
            ("IAM:{dag_id}", "the bare database user"),
            ("e" * 64 + "{dag_id}", "1 to 64"),
        ],
    )
    def test_an_impossible_template_is_refused_at_start(self, template, why):
        with pytest.raises(ValueError, match=why):
            db_users.parse(template)


@pytest.mark.attempt("share the database user of another DAG")
class TestRendering:
    def test_dag_and_team_replace_their_placeholders(self):
        assert db_users.render("etl_{dag_id}", TaskContext("sales.daily")) == "etl_sales.daily"
        for team in ("finance", "Finance"):
            assert db_users.render("{team}.{dag_id}", TaskContext("sales", team)) == "finance.sales"

    @pytest.mark.parametrize(
        ("template", "task", "why"),
        [
            ("etl_{dag_id}", TaskContext(), "= etl_{dag_id} needs the DAG, which is only known while a task runs"),
            ("{team}", TaskContext("sales"), "= {team} needs the team, and this lookup has none"),
            (
                "etl_{dag_id}",
                TaskContext("Sales"),
                "does not give a valid database user for dag_id 'Sales': it must be in lower case",
            ),
            ("{dag_id}", TaskContext("ümlaut"), "for dag_id 'ümlaut': it must be a database user as AWS accepts it"),
            ("{dag_id}", TaskContext("user"), "for dag_id 'user': it must not be USER, which AWS reserves"),
            ("etl_{dag_id}", TaskContext("d" * 61), "1 to 64 letters"),
            ("etl_{dag_id}", TaskContext("sales "), "must not begin or end with a space, as 'etl_sales ' does"),
            ("{team}@{dag_id}", TaskContext("9", "1st"), "for dag_id '9' and team '1st': it must be a database user"),
        ],
    )
    def test_a_name_that_does_not_fit_is_refused_and_never_changed(self, template, task, why):
        with pytest.raises(ValueError, match=re.escape(why)):
            db_users.render(template, task)

    def test_the_longest_name_that_fits_is_accepted(self):
        assert len(db_users.render("etl_{dag_id}", TaskContext("d" * 60))) == 64

    @given(
        st.sampled_from(["{team}.{dag_id}", "{dag_id}@{team}", "{team}-+_{dag_id}", "x{dag_id}.{team}"]),
        teams,
        names,
        teams,
        names,
    )
    def test_no_two_dags_share_a_user(self, template, team, dag_id, other_team, other_dag_id):
        assume((team, dag_id) != (other_team, other_dag_id))
        one, other = (
            login_user(template, TaskContext(dag_id, team)),
            login_user(template, TaskContext(other_dag_id, other_team)),
        )
        assert one is None or one != other

    @given(st.text(st.sampled_from(string.ascii_letters + "_.-é "), max_size=80))
    def test_the_result_is_a_database_user_with_the_whole_dag_id(self, dag_id):
        user = login_user("etl_{dag_id}", TaskContext(dag_id or None))
        if user is not None:
            assert values.db_user(user) == user == f"etl_{dag_id}" == user.lower()
