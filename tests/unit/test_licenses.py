"""The licenses of all that this package installs, its extras included, as the installed packages state them."""

from __future__ import annotations

import re
from collections.abc import Collection
from email.message import Message
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "redshift-secrets"
EXTRAS = ("redis", "local")

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
"""SPDX identifiers of licenses that ask for nothing but that their text and the names of the authors are kept."""

IN_WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""What classifiers and the field `License` say instead, which is less exact."""

UNUSUAL = {
    # Whoever changes one of their files publishes the change; programs that use them are free. Nothing here changes one.
    "certifi": {"MPL-2.0"},
    "pathspec": {"MPL-2.0"},
    # For the laptop stand-in alone, which imports them unchanged: so much is allowed to programs of any license.
    "psycopg": {"LGPL-3.0-only"},
    "psycopg-binary": {"LGPL-3.0-only"},
    # Each of them may be chosen, and the Artistic License is how Airflow has it (through python-slugify).
    "text-unidecode": {
        "Artistic License",
        "GNU General Public License (GPL)",
        "GNU General Public License v2 or later (GPLv2+)",
    },
}
"""Packages with licenses that ask for more, and why that is fine."""


def stated(described: Message) -> set[str]:
    """Return the licenses that a package states: of several, each, whether all hold or one may be chosen."""
    expression = described.get("License-Expression")
    if expression is not None:
        return set(re.split(r" (?:AND|OR|WITH) ", expression.replace("(", "").replace(")", "")))
    classifiers = [each for each in described.get_all("Classifier", []) if each.startswith("License ::")]
    named = {each.rpartition(" :: ")[2] for each in classifiers} or {str(described.get("License", "")).strip()}
    return {IN_WORDS.get(name, name) for name in named if name}


def objection(name: str, licenses: Collection[str]) -> str | None:
    """Return why a package cannot be installed with this one, `None` where it can."""
    unexpected = set(licenses) - PERMISSIVE - UNUSUAL.get(name, set())
    return f"{name}: {', '.join(sorted(unexpected)) or 'states no license'}" if unexpected or not licenses else None


def installed() -> dict[str, set[str]]:
    """Return the extras of each package that is installed because of this one, by name."""
    wanted: dict[str, set[str]] = {}
    to_do = [(ROOT, set(EXTRAS))]
    while to_do:
        name, extras = to_do.pop()
        name, extras = canonicalize_name(name), {"", *extras}
        if name in wanted and extras <= wanted[name]:
            continue
        wanted[name] = extras = extras | wanted.get(name, set())
        for requirement in map(Requirement, metadata.requires(name) or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                to_do.append((requirement.name, requirement.extras))
    return wanted


def test_each_package_that_this_one_installs_has_a_license_that_is_known_and_allowed() -> None:
    packages = installed()
    assert {"apache-airflow", "botocore", "redis", "moto", "psycopg-binary"} <= packages.keys()
    objections = [objection(name, stated(metadata.metadata(name))) for name in sorted(packages)]  # type: ignore[arg-type]
    assert [each for each in objections if each is not None] == []


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("a", ["License-Expression: (MIT OR Apache-2.0) AND PSF-2.0"], None),
        ("a", ["License-Expression: GPL-3.0-only"], "a: GPL-3.0-only"),
        ("a", ["License-Expression: MIT AND AGPL-3.0-only"], "a: AGPL-3.0-only"),
        ("a", ["License-Expression: GPL-3.0-only", "Classifier: License :: OSI Approved :: MIT License"], "a: GPL-3.0-only"),
        ("a", ["Classifier: License :: OSI Approved :: MIT License", "License: what you like"], None),
        ("a", ["Classifier: License :: Other/Proprietary License"], "a: Other/Proprietary License"),
        ("a", ["License: BSD-3-Clause"], None),
        ("a", ["License: Commercial"], "a: Commercial"),
        ("a", ["License: "], "a: states no license"),
        ("a", [], "a: states no license"),
        ("psycopg", ["License-Expression: LGPL-3.0-only"], None),
        ("psycopg", ["License-Expression: GPL-3.0-only"], "psycopg: GPL-3.0-only"),
        ("another", ["License-Expression: LGPL-3.0-only"], "another: LGPL-3.0-only"),
    ],
)  # fmt: skip
def test_an_unknown_or_a_stricter_license_is_named(name: str, lines: list[str], expected: str | None) -> None:
    described = Message()
    for line in lines:
        field, value = line.split(": ", 1)
        described[field] = value
    assert objection(name, stated(described)) == expected
