"""The setting `db_user` as a template: each DAG a database user of its own, and never two DAGs one."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redshift_secrets.settings import db_user as db_users
from redshift_secrets.settings import values
from redshift_secrets.settings.db_user import Dag

names = st.text(st.sampled_from("ab_-.+@"), min_size=1, max_size=6)
teams = st.text(st.sampled_from("ab_-"), min_size=1, max_size=4)


def login_user(template, dag):
    try:
        return db_users.rendered(db_users.read(template), dag)
    except ValueError:
        return None


class TestReading:
    @pytest.mark.parametrize("template", ["etl_{dag_id}", "{dag_id}", "{team}.{dag_id}", "x{dag_id}@{team}", "{team}"])
    def test_templates_over_dag_and_team_are_taken_as_they_are(self, template):
        assert db_users.read(f" {template} ") == template
        assert db_users.is_template(template)

    def test_a_plain_database_user_is_read_as_ever(self):
        assert db_users.read("airflow_etl") == "airflow_etl"
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
    def test_what_could_never_work_is_refused_at_the_start(self, template, why):
        with pytest.raises(ValueError, match=why):
            db_users.read(template)


class TestRendering:
    def test_dag_and_team_are_put_in_their_places(self):
        assert db_users.rendered("etl_{dag_id}", Dag("sales.daily")) == "etl_sales.daily"
        assert db_users.rendered("{team}.{dag_id}", Dag("sales", "finance")) == "finance.sales"

    @pytest.mark.parametrize(
        ("template", "dag", "why"),
        [
            ("etl_{dag_id}", Dag(), "= etl_{dag_id} needs the DAG, which is only known while a task runs"),
            ("{team}", Dag("sales"), "= {team} needs the team, and none asks"),
            ("etl_{dag_id}", Dag("Sales"), "no database user for dag_id 'Sales': it must be in lower case"),
            ("{dag_id}", Dag("ümlaut"), "for dag_id 'ümlaut': it must be a database user as AWS accepts it"),
            ("{dag_id}", Dag("user"), "for dag_id 'user': it must not be USER, which AWS reserves"),
            ("etl_{dag_id}", Dag("d" * 61), "1 to 64 letters"),
            ("etl_{dag_id}", Dag("sales "), "must not begin or end with a space, as 'etl_sales ' does"),
            ("{team}@{dag_id}", Dag("9", "Team"), "for dag_id '9' and team 'Team': it must be in lower case"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_never_changed(self, template, dag, why):
        with pytest.raises(ValueError, match=re.escape(why)):
            db_users.rendered(template, dag)

    def test_the_longest_name_that_fits_is_taken(self):
        assert len(db_users.rendered("etl_{dag_id}", Dag("d" * 60))) == 64

    @given(
        st.sampled_from(["{team}.{dag_id}", "{dag_id}@{team}", "{team}-+_{dag_id}", "x{dag_id}.{team}"]),
        teams,
        names,
        teams,
        names,
    )
    def test_no_two_dags_are_one_user(self, template, team, dag_id, other_team, other_dag_id):
        assume((team, dag_id) != (other_team, other_dag_id))
        one, other = login_user(template, Dag(dag_id, team)), login_user(template, Dag(other_dag_id, other_team))
        assert one is None or one != other

    @given(st.text(st.sampled_from(string.ascii_letters + "_.-é "), max_size=80))
    def test_what_is_made_is_a_database_user_that_holds_the_whole_dag_id(self, dag_id):
        made = login_user("etl_{dag_id}", Dag(dag_id or None))
        if made is not None:
            assert values.db_user(made) == made == f"etl_{dag_id}" == made.lower()


class TestWhoAsks:
    def test_the_environment_of_a_task_names_dag_and_team(self):
        environ = {"AIRFLOW_CTX_DAG_ID": "sales", "AIRFLOW_CTX_TEAM_NAME": "finance"}
        assert db_users.task_context(environ, None) == Dag("sales", "finance")

    def test_the_team_that_airflow_tells_beats_the_environment(self):
        assert db_users.task_context({"AIRFLOW_CTX_TEAM_NAME": "finance"}, "stock") == Dag(None, "stock")

    def test_nothing_is_known_where_no_task_runs(self):
        assert db_users.task_context({"AIRFLOW_CTX_DAG_ID": ""}, None) == Dag()
