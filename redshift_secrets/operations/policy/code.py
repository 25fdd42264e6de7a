"""The policies of a site as JSON, Terraform or CloudFormation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redshift_secrets.operations.policy.documents import IdentityPolicies, Placeholder, SitePolicies


def as_code(site: SitePolicies, form: str) -> str:
    """Return the policies in one of `FORMS`."""
    return FORMS[form](site)


def _json(site: SitePolicies) -> str:
    found = [
        {
            "identity": each.arn,
            "account": each.account,
            "policies": [{"name": name, "document": document} for name, document in each.policies.items()],
            **({} if each.trust is None else {"trust_policy": each.trust}),
            **({} if each.max_session_seconds is None else {"max_session_seconds": each.max_session_seconds}),
        }
        for each in site.identities
    ]
    return json.dumps(found, indent=2, default=str)


def _terraform(site: SitePolicies) -> str:
    blocks = []
    for placeholder in _placeholders([[each.arn, each.trust] for each in site.identities]):
        is_secret = "\n  sensitive   = true" if placeholder.is_secret else ""
        blocks.append(
            f'variable "{placeholder.name}" {{\n  description = {json.dumps(placeholder.about)}\n  type        = string{is_secret}\n}}'
        )
    home = site.identities[0].account if site.identities else None
    for each in site.identities:
        provider = f"aws.account_{each.account}" if each.account != home else None
        blocks += _resources(each, provider)
    aliases = sorted({str(each.account) for each in site.identities if each.account != home})
    if aliases:
        blocks.insert(0, "\n".join(f"# Needs a provider aws with alias account_{alias}." for alias in aliases))
    return "\n\n".join(blocks)


def _resources(identity: IdentityPolicies, provider: str | None) -> Iterator[str]:
    name = _name(identity.arn)
    attached = "role"
    if not identity.is_caller:
        path = identity.arn.split(":role", 1)[1].rpartition("/")[0] + "/"  # type: ignore[union-attr]  # the ARN of a role
        more = [("max_session_duration", str(identity.max_session_seconds))] if identity.max_session_seconds else []
        label = _label(f"{name}_{identity.account}")
        role = f"aws_iam_role.{label}.name"
        yield _block(
            "aws_iam_role",
            label,
            provider,
            [("name", _hcl(name, "")), ("path", _hcl(path, "")), *more],
            ("assume_role_policy", identity.trust),
        )
    elif isinstance(identity.arn, Placeholder):
        label, role = "caller", f'element(reverse(split("/", var.{identity.arn.name})), 0)'
    else:
        label, role = "caller", _hcl(name, "")
        attached = "user" if ":user/" in identity.arn else "role"
    for number, (policy, document) in enumerate(identity.policies.items(), 1):
        of = label if len(identity.policies) == 1 else f"{label}_{number}"
        yield _block("aws_iam_policy", of, provider, [("name", json.dumps(policy))], ("policy", document))
        yield _block(
            f"aws_iam_{attached}_policy_attachment",
            of,
            provider,
            [(attached, role), ("policy_arn", f"aws_iam_policy.{of}.arn")],
        )


def _block(
    kind: str,
    label: str,
    provider: str | None,
    arguments: list[tuple[str, str]],
    document: tuple[str, Any] | None = None,
) -> str:
    """A resource as `terraform fmt` leaves it."""
    if provider is not None:
        arguments = [("provider", provider), *arguments]
    width = max(len(name) for name, _ in arguments)
    lines = [f"  {name.ljust(width)} = {value}" for name, value in arguments]
    if document is not None:
        text = _hcl(document[1], "  ")
        lines.append(f"  {document[0]} = jsonencode({text})")
    return "\n".join([f'resource "{kind}" "{label}" {{', *lines, "}"])


def _hcl(value: object, indent: str) -> str:
    """An expression of Terraform: JSON is one, but for what it takes for a template."""
    inner = f"{indent}  "
    if isinstance(value, Placeholder):
        return f"var.{value.name}"
    if isinstance(value, Mapping):
        lines = [f"{inner}{json.dumps(key)} : {_hcl(each, inner)}" for key, each in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _hcl(each, inner) for each in value) + f"\n{indent}]"
    return json.dumps(value).replace("${", "$${").replace("%{", "%%{")


def _cloudformation(site: SitePolicies) -> str:
    """One template for each account, since a stack is in one."""
    import yaml

    texts = []
    for account in dict.fromkeys(each.account for each in site.identities):
        here = [each for each in site.identities if each.account == account]
        resources: dict[str, Any] = {}
        for each in here:
            label, number = "Caller" if each.is_caller else _camel(_name(each.arn)), 1
            # Of a-b and a_b is left the same, and a role may be called caller.
            while (found := dict(_stack(each, label + str(number) * (number > 1)))).keys() & resources.keys():
                number += 1
            resources |= found
        parameters = {_camel(each.name): _parameter(each) for each in _placeholders(resources)}
        template = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": f"redshift-secrets, in {'the account of the caller' if account is None else f'account {account}'}",
            **({"Parameters": parameters} if parameters else {}),
            "Resources": _with_references(resources),
        }
        texts.append(yaml.safe_dump(template, sort_keys=False, width=1_000).rstrip())
    return "\n---\n".join(texts)


def _parameter(placeholder: Placeholder) -> dict[str, Any]:
    return {"Type": "String", "Description": placeholder.about, **({"NoEcho": True} if placeholder.is_secret else {})}


def _stack(identity: IdentityPolicies, label: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name = _name(identity.arn)
    attached: dict[str, Any] = {}
    if not identity.is_caller:
        attached = {"Roles": [{"Ref": label}]}
        path = identity.arn.split(":role", 1)[1].rpartition("/")[0] + "/"  # type: ignore[union-attr]  # the ARN of a role
        properties: dict[str, Any] = {"RoleName": name, "Path": path, "AssumeRolePolicyDocument": identity.trust}
        if identity.max_session_seconds:
            properties["MaxSessionDuration"] = identity.max_session_seconds
        yield label, {"Type": "AWS::IAM::Role", "Properties": properties}
    elif isinstance(identity.arn, Placeholder):
        attached = {"Roles": [Placeholder("caller_name", "Name of the role that Airflow runs as")]}
    else:
        attached = {"Users" if ":user/" in identity.arn else "Roles": [name]}
    for number, (policy, document) in enumerate(identity.policies.items(), 1):
        own = f"{label}Policy{'' if len(identity.policies) == 1 else number}"
        properties = {"ManagedPolicyName": policy, "PolicyDocument": document, **attached}
        yield own, {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}


def _with_references(value: Any) -> Any:
    if isinstance(value, Placeholder):
        return {"Ref": _camel(value.name)}
    if isinstance(value, Mapping):
        return {key: _with_references(each) for key, each in value.items()}
    return [_with_references(each) for each in value] if isinstance(value, list) else value


def _placeholders(value: Any) -> list[Placeholder]:
    """Those in a value, each once, in their order."""
    if isinstance(value, Placeholder):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return list(dict.fromkeys(found for each in inner for found in _placeholders(each)))


def _name(arn: str | Placeholder) -> str:
    return "caller" if isinstance(arn, Placeholder) else arn.rpartition("/")[2]


def _label(name: str) -> str:
    """A name of Terraform, which may have letters, digits, _ and -, and begins with none of the latter two."""
    return re.sub(r"^(?=[\d-])", "_", re.sub(r"[^\w-]", "_", name, flags=re.ASCII))


def _camel(name: str) -> str:
    """A logical name of CloudFormation, which has letters and digits alone."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


FORMS: Mapping[str, Callable[[SitePolicies], str]] = {
    "json": _json,
    "terraform": _terraform,
    "cloudformation": _cloudformation,
}
"""What policies can be printed as."""
