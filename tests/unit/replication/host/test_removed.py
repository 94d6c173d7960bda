"""A replica ends while somebody waits: who is told that nothing happened has to be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from vecdb_replication.host import (
    GroupError,
    GroupStopped,
    HostClosed,
    OutcomeUnknown,
    Proposal,
    Reader,
    UnknownGroup,
)
from vecdb_replication.wal import Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER
from tests.unit.replication.host.test_core import G, Lead


@pytest.fixture
def log() -> Iterator[Wal]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as opened:
        yield opened


ENDS = [UnknownGroup("removed"), HostClosed("closing"), GroupStopped("broken")]


@pytest.mark.parametrize("ends", ENDS)
def test_what_others_may_have_is_not_said_to_be_lost(log: Wal, ends: GroupError) -> None:
    """The followers were sent the first entry, and may commit it without this; the second went nowhere."""
    lead = Lead(log)
    told: dict[str, Exception] = {}

    def tell(what: str) -> Callable[[Exception], None]:
        return lambda error: told.update({what: error})

    lead.core.propose(G, Proposal(b"sent", lambda *_: None, tell("sent")))
    lead.settle()
    lead.core.propose(G, Proposal(b"kept", lambda *_: None, tell("kept")))
    lead.core.read(G, Reader(lambda _: None, tell("read")))
    lead.held.end(ends)
    assert told["kept"] is told["read"] is ends
    assert isinstance(told["sent"], OutcomeUnknown | GroupStopped)
