"""Replication: the durable log, the Raft core, and the host that runs groups on the log."""
