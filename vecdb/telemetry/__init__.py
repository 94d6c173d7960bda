"""What a node says about itself: log lines, metrics, health over HTTP."""

from vecdb.telemetry._meter import RpcMeter
from vecdb.telemetry.http import HttpServer, Response, standard_routes
from vecdb.telemetry.logs import audit_logger, configure
from vecdb.telemetry.metrics import REFUSALS, NodeMetrics
from vecdb.telemetry.shards import ShardSample

__all__ = [
    "REFUSALS",
    "HttpServer",
    "NodeMetrics",
    "Response",
    "RpcMeter",
    "ShardSample",
    "audit_logger",
    "configure",
    "standard_routes",
]
