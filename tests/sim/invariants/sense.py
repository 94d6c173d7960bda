"""Replicas that follow the algorithm say only what one can have said (Raft paper, figure 2: the receivers'
rules). What a host drops because it makes no sense would be a lost message here, and hide a bug."""

from __future__ import annotations

from vecdb_replication.host.incidents import Incidents

from tests.sim.facts import fail


def check(node: int, incidents: Incidents) -> None:
    """A host has heard nothing of its peers that makes no sense."""
    if incidents.nonsense:
        told = "; ".join(f"node {each.peer}: {each.problem}" for each in incidents.take() if each.peer)
        fail(f"node {node} was told what makes no sense, by {told}")
