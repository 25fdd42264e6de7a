"""What a lookup gets in every state of the entry, of AWS and of the lease. Follows docs/contract.md, "Ages"."""

from __future__ import annotations

import itertools
import re

import pytest

from redshift_secrets.errors import AwsError
from tests.support.fakes import denied
from tests.support.memory_store import tier
from tests.unit.cache.simulation import EXPIRED, FOREVER, FRESH, STALE, put

TABLE = """
    entry       AWS       lease      returns    waits    second     waits    asked

    fresh       any       any        entry      0        entry      0        0

    revalidate  any       alone      entry      0        entry      0        1
    revalidate  any       living     entry      0        entry      0        1
    revalidate  any       stopped    entry      0        entry      0        0
    revalidate  any       dead       entry      0        entry      0        0

    if error    well      alone      new        1        new        0        1
    if error    well      living     new        1        new        0        1
    if error    well      dead       new        2        new        0        1
    if error    failing   alone      entry      1        entry      0        1
    if error    failing   living     entry      1        entry      0        1
    if error    failing   dead       entry      2        entry      0        1
    if error    silent    alone      entry      5        entry      0        1
    if error    silent    living     entry      5        entry      0        1
    if error    silent    dead       entry      5        entry      0        1
    if error    slow      alone      entry      5        entry      0        1
    if error    slow      living     entry      5        entry      0        1
    if error    slow      dead       entry      5        entry      0        1
    if error    any       stopped    entry      5        entry      0        0

    none        well      alone      new        1        new        0        1
    none        well      living     new        1        new        0        1
    none        well      stopped    new        8.5      new        0        1
    none        well      dead       new        2        new        0        1
    none        failing   alone      error      1        error      0        1
    none        failing   living     error      1        error      0        1
    none        failing   stopped    error      8.5      error      0        1
    none        failing   dead       error      2        error      0        1
    none        silent    alone      late       10       late       0        1
    none        silent    living     late       10       late       0        2
    none        silent    stopped    late       10       late       0        1
    none        silent    dead       late       10       late       0        1
    none        slow      alone      new        6        new        0        1
    none        slow      living     new        6        new        0        1
    none        slow      stopped    late       10       late       0        1
    none        slow      dead       new        7        new        0        1
"""
"""A lookup may take 10 s. `second` is one in another process of this host, at the moment when the first returns; `asked` is
how many times AWS is asked until all of them have ended.

entry    fresh; stale while revalidating; stale if error; `none`: expired or absent
AWS      well: answers after 1 s; failing: with an error after 1 s; silent: never; slow: after 6 s
lease    alone: free; living: of a process that began to refresh a moment before; stopped: of one that is suspended;
         dead: of one that was killed, which is noticed after 1 s
returns  the entry; the new one; the error of AWS; late: that it timed out
waits    seconds, to within the pause between two looks at the store
"""

AGES = {
    "fresh": [0, FRESH - 1],
    "revalidate": [FRESH, STALE - 1],
    "if error": [STALE, EXPIRED - 20],
    "none": [EXPIRED, None],
}
ANSWER_SECONDS = {"well": 1.0, "failing": 1.0, "silent": FOREVER, "slow": 6.0}
LEASES = ("alone", "living", "stopped", "dead")
PAUSE_SECONDS = 0.4


def rows():
    for line in TABLE.strip().splitlines()[2:]:
        if line:
            entry, aws, lease, *expected = re.split("  +", line.strip())
            answers, leases = ANSWER_SECONDS if aws == "any" else [aws], LEASES if lease == "any" else [lease]
            for state in itertools.product([entry], answers, leases):
                yield *state, expected


def test_the_table_has_every_state_once():
    states = [(entry, aws, lease) for entry, aws, lease, _ in rows()]
    assert sorted(states) == sorted(itertools.product(AGES, ANSWER_SECONDS, LEASES))


@pytest.mark.parametrize(
    ("age", "aws", "lease", "expected"),
    [
        pytest.param(age, aws, lease, expected, id=f"{entry}({age})-{aws}-{lease}")
        for entry, aws, lease, expected in rows()
        for age in AGES[entry]
    ],
)
def test_what_a_lookup_gets(simulation, source, process, host, age, aws, lease, expected):
    place = tier(host).place("k")
    if age is not None:
        put(process(host), "old", made_ago=age)
    source.seconds = ANSWER_SECONDS[aws]
    source.error = denied() if aws == "failing" else None
    if lease == "living":
        process(host).start()
    elif lease in ("stopped", "dead"):
        host.leases.add(place)
        simulation.at(1.0 if lease == "dead" else FOREVER, lambda: host.leases.discard(place))

    returned, waits, second_returned, second_waits, asked = expected
    for shown, seconds in ((returned, waits), (second_returned, second_waits)):
        asking = process(host)
        assert in_words(asking.get()) == shown
        assert float(seconds) <= asking.waited <= float(seconds) + PAUSE_SECONDS
    simulation.finish()
    assert source.asked == int(asked)


def in_words(found):
    if isinstance(found, Exception):
        return "error" if isinstance(found, AwsError) else "late"
    return "entry" if found == "old" else "new"
