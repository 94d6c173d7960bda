"""The mutants still fit the code, and cover the list of bugs that have to be caught."""

from __future__ import annotations

import pytest

from tests.mutants.changes import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.run import ROOT, mutated, suites

# Seeded bugs that the suite must catch, as the plan of the replication asked for them.
LISTED = {
    "grant a vote without persisting it",
    "persist it after the reply",
    "skip the up-to-date check",
    "`>=` for `>` in it",
    "commit an entry of an older term",
    "count oneself before durable",
    "a quorum off by one",
    "joint quorum by the incoming half only",
    "truncate on every append",
    "do not truncate on conflict",
    "follower commit without min(last)",
    "accept a stale-term acknowledgement",
    "match moves backwards",
    "no no-op at term start",
    "ReadIndex without the term-commit check",
    "read acks reused",
    "PreVote raises the term",
    "snapshot keeps an old suffix",
    "snapshot configuration ignored",
    "snapshot status never reported",
    "two pending changes",
    "change applied twice after restart",
    "applied index outside the apply transaction",
    "no sync when only the vote changed",
    "torn tail accepted",
    "CRC unchecked",
    "a duplicate vote counted twice",
    "retry window forgotten in the snapshot",
    "a dropped log segment that held an idle group's only vote",
    "a message that creates a replica",
    "a replica id used again after its log was lost",
    "commit not raised to applied on opening",
    "a failed sync retried",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_of_the_code_as_it_is(mutant: Mutant) -> None:
    """What it replaces is there once, what comes out is a program, and somebody is to notice."""
    text = (ROOT / mutant.package / mutant.path).read_text()
    assert mutated(mutant, text) != text
    for suite in suites(mutant.area):
        assert all((ROOT / part).exists() for part in suite if part.startswith("tests/"))


def test_every_bug_of_the_list_has_a_mutant() -> None:
    """And no mutant claims to be on it that is not."""
    assert {mutant.listed for mutant in MUTANTS if mutant.listed} == LISTED


def test_no_two_mutants_are_the_same() -> None:
    """Each has a name and a change of its own."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
