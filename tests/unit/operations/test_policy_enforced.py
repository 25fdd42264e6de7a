"""The printed policies are enough, and nothing in them can be left out: on an AWS that enforces them, in two accounts."""

from __future__ import annotations

import copy
import logging

import botocore.loaders
import pytest

from redshift_secrets.aws.client import AwsClient
from tests.unit.operations.policy_site import (
    CALLER,
    CONN_IDS,
    REMOTE_ROLE,
    WITH_ROLE,
    EnforcingSite,
    documents,
    narrowed,
    without_statements,
)

ONLY_SLOWER = "tag:GetResources"
"""Without it, the tags of workgroups are listed one by one."""


class Proof:
    """A site, what its policies are, and what becomes of its lookups where nothing is enforced and where they are."""

    def __init__(self, site: EnforcingSite, printed: list) -> None:
        self.site, self.printed = site, printed
        self.expected = site.outcomes(site.client())
        site.allow(printed)
        self.client = site.client()
        self.enforced = site.outcomes(self.client)
        self.denied = list(site.denied)


@pytest.fixture(scope="module", params=[{}, WITH_ROLE], ids=["the caller itself", "a role, with tags of its own"])
def proof(request):
    with pytest.MonkeyPatch.context() as patch:
        logging.disable(logging.CRITICAL)  # each policy that lacks something is a page of warnings
        loader = botocore.loaders.Loader()  # sessions would each read the models anew
        patch.setattr(botocore.loaders, "create_loader", lambda *_arguments: loader)
        for name in ("AWS_PROFILE", "AWS_REGION"):
            patch.delenv(name, raising=False)
        site = EnforcingSite(**request.param)
        with site.aws:
            for name, value in site.environment().items():
                patch.setenv(name, value)
            yield Proof(site, site.printed())
        logging.disable(logging.NOTSET)


def test_with_the_policies_every_lookup_works(proof):
    assert proof.denied == []
    assert proof.enforced == proof.expected
    assert set(CONN_IDS) <= set(proof.expected)
    # But for one: to name no user needs no role, and with one the driver does not mint as that.
    assert [each for each, outcome in proof.expected.items() if outcome in ("failed", "missing")] == (
        ["by-driver"] if proof.site.settings.role_arn else []
    )


def test_without_any_statement_some_lookup_fails(proof):
    idle = []
    for what, changed in without_statements(proof.printed):
        proof.site.allow(changed)
        assumes = any(each in what for each in ("AssumeRoles", "TagSessions"))
        client: AwsClient = proof.site.client() if assumes else proof.client
        if proof.site.works(client, proof.expected):
            idle.append(what)
    assert idle == []


def test_without_any_action_resource_or_value_some_call_is_denied(proof):
    proof.site.allow(proof.printed)
    proof.site.outcomes(proof.site.client())
    assert proof.site.denials() == []
    idle, number = [], 0
    for what, changed in narrowed(proof.printed):
        number += 1
        proof.site.allow(changed)
        if not proof.site.denials():
            idle.append(what)
    assert idle == []
    assert number > 30


def test_only_the_tagging_api_is_for_speed_alone(proof):
    for what, changed in narrowed(proof.printed):
        if ONLY_SLOWER in what:
            proof.site.allow(changed)
            assert proof.site.works(proof.client, proof.expected)


def test_nobody_else_may_assume_the_roles(proof):
    changed = copy.deepcopy(proof.printed)
    for identity in changed:
        for _, document in documents(identity):
            for statement in document["Statement"]:
                if "Principal" in statement:
                    statement["Principal"] = {"AWS": f"{CALLER}-of-somebody-else"}
    proof.site.allow(changed)
    proof.site.outcomes(proof.site.client())
    role = proof.site.settings.role_arn or REMOTE_ROLE
    assert any(
        f"is not authorized to perform: sts:AssumeRole on resource: {role}" in each for each in proof.site.denied
    )
