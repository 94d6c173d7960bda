"""What a node says about itself: log lines, metrics, health over HTTP."""

from vecdb.telemetry._meter import RpcMeter
from vecdb.telemetry.http import HttpServer, Response, standard_routes
from vecdb.telemetry.logs import configure
from vecdb.telemetry.metrics import NodeMetrics
from vecdb.telemetry.shards import ShardSample

__all__ = [
    "HttpServer",
    "NodeMetrics",
    "Response",
    "RpcMeter",
    "ShardSample",
    "configure",
    "standard_routes",
]
