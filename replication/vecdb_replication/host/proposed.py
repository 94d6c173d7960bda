"""Who proposed what, between the core and the commit."""

from __future__ import annotations

from collections.abc import Sequence

from vecdb_replication import raft
from vecdb_replication.host.errors import ChangeRefused, GroupError, OutcomeUnknown, ProposalLost
from vecdb_replication.host.work import Proposal


class Proposed:
    """The proposals of one replica that its core has taken, by the index and term it gave them."""

    __slots__ = ("_by_index",)

    def __init__(self) -> None:
        self._by_index: dict[int, tuple[int, Proposal]] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def put(self, term: int, first: int, proposals: Sequence[Proposal]) -> None:
        """The core took them, from index `first` on."""
        for index, proposal in enumerate(proposals, first):
            self._by_index[index] = (term, proposal)

    def claim(self, entry: raft.Entry) -> Proposal | None:
        """Who proposed a committed entry, if it was somebody here."""
        term, proposal = self._by_index.pop(entry.index, (0, None))
        if proposal is None:
            return None
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
        self._reject_beyond(last, OutcomeUnknown("another leader has replaced the entry here"))

    def refused(self, last: int, error: GroupError) -> None:
        """The log ends at `last`, and takes nothing behind it. What it has may still be committed."""
        self._reject_beyond(last, error)

    def _reject_beyond(self, last: int, error: GroupError) -> None:
        for index in [index for index in self._by_index if index > last]:
            self._by_index.pop(index)[1].reject(error)

    def overtaken(self, index: int) -> None:
        """A snapshot has taken the place of everything up to `index`."""
        for each in [each for each in self._by_index if each <= index]:
            self._by_index.pop(each)[1].reject(OutcomeUnknown("the group went on without this replica"))

    def abandon(self, failure: Exception) -> None:
        """Tell all who wait that nothing more will be heard of it."""
        proposed, self._by_index = self._by_index, {}
        for _, proposal in proposed.values():
            proposal.reject(failure)
