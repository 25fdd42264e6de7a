"""From claims to what the templates show: searching, filtering, sorting, pages, causes. Pure, data in and data out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import asdict, replace

from redshift_secrets.operations.inspect import CredentialView
from redshift_secrets.operations.overview import CONFLICT, Claim

PAGE = 100
_MOST_CAUSES = 8
_LONGEST_TEXT = 300

SORTS: Mapping[str, Callable[[Claim], object]] = {
    "conn_id": lambda claim: claim.conn_id,
    "warehouse": lambda claim: (claim.row.warehouse, claim.row.arn),
    "database": lambda claim: claim.row.database,
    "user": lambda claim: claim.row.user,
    "team": lambda claim: claim.team or "",
    "state": lambda claim: claim.row.state,
    "problems": lambda claim: (not claim.row.fails, -len(claim.problems)),
}
"""What rows can be sorted by; the most serious problems come first."""

FILTERS: Mapping[str, Callable[[Claim], str]] = {
    "kind": lambda claim: claim.row.kind,
    "account": lambda claim: claim.row.account,
    "region": lambda claim: claim.row.region,
    "auth": lambda claim: claim.row.auth,
    "team": lambda claim: claim.team or "every team",
    "state": lambda claim: claim.row.state,
}
"""What rows can be filtered by."""

_TIERS = {"process": "the memory of this API server", "host": "the host store", "fleet": "the fleet store"}


class View(Struct, frozen=True):
    """What somebody looks at: all of it is in the address. `sort` is a key of `SORTS`, with `-` in front for the other way round."""

    q: str = ""
    kind: str = ""
    account: str = ""
    region: str = ""
    auth: str = ""
    team: str = ""
    state: str = ""
    problems: str = ""
    cause: str = ""
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> View:
        """Return the view of an address; what it cannot mean counts as not given."""
        texts = {name: parameters.get(name, "")[:_LONGEST_TEXT].strip() for name in cls.__struct_fields__}
        page = texts.pop("page")
        if texts["sort"].removeprefix("-") not in SORTS:
            texts["sort"] = ""
        return cls(
            **texts, page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 and int(page) else 1
        )

    def address(self, **changes: object) -> str:
        """Return the query of the address of this view, with changes; it begins with `?`."""
        changed = asdict(replace(self, **changes))
        return "?" + urlencode({name: value for name, value in changed.items() if value not in ("", 1)})

    @property
    def is_filtered(self) -> bool:
        """Whether it may leave out a row."""
        return self != View(sort=self.sort, page=self.page)


class Cause(Struct, frozen=True):
    """One reason for problems, how many connections it touches, and the id by which a view selects them."""

    text: str
    count: int
    keeps_from_serving: bool
    id: str


class Table(Struct, frozen=True):
    """The rows of one page of a view, how many there are before and after filtering, and what can be chosen."""

    claims: Sequence[Claim]
    total: int
    matching: int
    pages: int
    page: int
    choices: Mapping[str, Sequence[str]]
    causes: Sequence[Cause]
    more_causes: int

    @property
    def first(self) -> int:
        """The number of the first row on the page, from 1."""
        return (self.page - 1) * PAGE + 1


def build_table(claims: Sequence[Claim], view: View) -> Table:
    """Return the page of these claims that a view asks for; one behind the last page gets the last."""
    found = _matching(claims, view)
    sort = view.sort.removeprefix("-") or "conn_id"
    found.sort(key=SORTS[sort], reverse=view.sort.startswith("-"))  # type: ignore[arg-type]  # each key has one type
    pages = max(1, -(-len(found) // PAGE))
    page = min(view.page, pages)
    causes = _causes(claims)
    choices = {name: sorted({of(claim) for claim in claims}) for name, of in FILTERS.items()}
    shown = found[(page - 1) * PAGE : page * PAGE]
    return Table(
        shown,
        len(claims),
        len(found),
        pages,
        page,
        choices,
        causes[:_MOST_CAUSES],
        len(causes) - len(causes[:_MOST_CAUSES]),
    )


def _matching(claims: Sequence[Claim], view: View) -> list[Claim]:
    chosen = [(of, value) for name, of in FILTERS.items() if (value := getattr(view, name))]
    words = view.q.lower().split()
    found = [claim for claim in claims if all(of(claim) == value for of, value in chosen)]
    if view.problems:
        found = [claim for claim in found if claim.problems]
    if view.cause:
        found = [claim for claim in found if any(_id(each.cause) == view.cause for each in claim.problems)]
    if words:
        found = [claim for claim in found if (text := _text(claim)) and all(word in text for word in words)]
    return found


def _text(claim: Claim) -> str:
    """Everything that a search looks at."""
    row = claim.row
    texts = (row.conn_id, row.kind, row.warehouse, row.account, row.region, row.database, row.user, row.auth)
    return " ".join((*texts, row.team or "", row.state, *row.problems)).lower()


def _causes(claims: Sequence[Claim]) -> list[Cause]:
    """Conflicts first, then what keeps most connections from being served."""
    counts: Counter[str] = Counter()
    serious: dict[str, bool] = {}
    for claim in claims:
        for problem in {each.cause: each for each in claim.problems}.values():
            counts[problem.cause] += 1
            serious[problem.cause] = serious.get(problem.cause, False) or problem.keeps_from_serving
    found = [Cause(text, count, serious[text], _id(text)) for text, count in counts.items()]
    return sorted(found, key=lambda each: (each.text != CONFLICT, not each.keeps_from_serving, -each.count, each.text))


def _id(cause: str) -> str:
    return hashlib.sha256(cause.encode()).hexdigest()[:12]


class Bar(Struct, frozen=True):
    """A credential as a bar of 100 units from minted to expiry, and in words."""

    used: int
    half: int
    text: str


def bar(credential: CredentialView | None, now: float) -> Bar | None:
    """Return how a credential is drawn at a moment in seconds since the epoch."""
    if credential is None:
        return None
    whole = max(1.0, credential.expires_at - credential.minted_at)
    used, half = (
        round(100 * min(1.0, max(0.0, (moment - credential.minted_at) / whole)))
        for moment in (now, credential.refresh_at)
    )
    left = duration(credential.expires_at - now)
    refresh = credential.refresh_at - now
    then = f"refreshed in {duration(refresh)}" if refresh > 0 else "refreshed at the next lookup"
    return Bar(used, half, f"{left} left, {then}, in {_TIERS[credential.tier]}")


def duration(seconds: float) -> str:
    """Return a time in words; a negative one counts as none."""
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{max(0.0, seconds):.0f} s"


class Row(Struct, frozen=True):
    """A claim with the bar of its credential."""

    claim: Claim
    bar: Bar | None

    @property
    def id(self) -> str:
        """What is the same for the same claim and may be part of an id in HTML."""
        return _id(f"{self.claim.row.arn} {self.claim.conn_id}")

    @property
    def address(self) -> str:
        """The query that selects this claim."""
        return "?" + urlencode({"conn_id": self.claim.conn_id, "warehouse": self.claim.row.arn})
