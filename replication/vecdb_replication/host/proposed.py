"""Who proposed what, between the core and the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecdb_replication import raft
from vecdb_replication.host.errors import ChangeRefused, GroupError, OutcomeUnknown, ProposalLost
from vecdb_replication.host.work import Proposal


@dataclass(frozen=True, slots=True)
class _Taken:
    term: int
    proposal: Proposal
    private: bool
    """Whether nobody else can have the entry unless it is durable here."""


class Proposed:
    """The proposals of one replica that its core has taken, by the index and term it gave them."""

    __slots__ = ("_by_index",)

    def __init__(self) -> None:
        self._by_index: dict[int, _Taken] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def put(self, term: int, first: int, proposals: Sequence[Proposal], *, private: bool) -> None:
        """The core took them, from index `first` on. `private` is whether nobody else hears of them first."""
        for index, proposal in enumerate(proposals, first):
            self._by_index[index] = _Taken(term, proposal, private)

    def claim(self, entry: raft.Entry) -> Proposal | None:
        """Who proposed a committed entry, if it was somebody here."""
        taken = self._by_index.pop(entry.index, None)
        if taken is None:
            return None
        term, proposal = taken.term, taken.proposal
        if term != entry.term:
            proposal.reject(ProposalLost(f"entry {entry.index} is another leader's, of term {entry.term}"))
            return None
        if proposal.change is not None and entry.type is raft.EntryType.NORMAL:
            proposal.reject(ChangeRefused("the membership cannot be changed like this now"))
            return None
        return proposal

    def replaced(self, last: int) -> None:
        """The log ends at `last` now, by another leader's wish.

        What was behind that is not lost for sure: another replica may have it, and lead one day.
        """
        unknown = OutcomeUnknown("another leader has replaced the entry here")
        for taken in self._beyond(last):
            taken.proposal.reject(unknown)

    def refused(self, last: int, error: GroupError) -> None:
        """The log ends at `last`, and takes nothing behind it. What it has may still be committed.

        So may what it has not, where others were sent it.
        """
        unknown = OutcomeUnknown(f"other replicas may have the entry; here {error}")
        for taken in self._beyond(last):
            taken.proposal.reject(error if taken.private else unknown)

    def _beyond(self, last: int) -> list[_Taken]:
        return [self._by_index.pop(index) for index in [index for index in self._by_index if index > last]]

    def overtaken(self, index: int) -> None:
        """A snapshot has taken the place of everything up to `index`."""
        for each in [each for each in self._by_index if each <= index]:
            self._by_index.pop(each).proposal.reject(OutcomeUnknown("the group went on without this replica"))

    def abandon(self, failure: Exception) -> None:
        """Tell all who wait that nothing more will be heard of it."""
        proposed, self._by_index = self._by_index, {}
        for taken in proposed.values():
            taken.proposal.reject(failure)
