"""Distance and containment on the sphere, for geo clauses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

# Mean Earth radius R1 of the IUGG (Moritz, Geodetic Reference System 1980), metres. Against the ellipsoid a
# sphere errs by up to 0.5 %, which is below what a search radius means.
EARTH_RADIUS: Final = 6_371_008.8


def point(value: Mapping[str, Any]) -> tuple[float, float] | None:
    """Latitude and longitude in degrees of a ``{"lat": ..., "lon": ...}`` map; None when it is no point."""
    lat, lon = value.get("lat"), value.get("lon")
    if not isinstance(lat, int | float) or not isinstance(lon, int | float):
        return None
    if isinstance(lat, bool) or isinstance(lon, bool) or not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return None
    return float(lat), float(lon)


def distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in metres of two points in degrees.

    The haversine formula (Sinnott, Virtues of the Haversine, Sky & Telescope 68, 1984) stays accurate for
    close points, where the law of cosines cancels.
    """
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_lat = math.sin((phi2 - phi1) / 2)
    half_lon = math.sin(math.radians(lon2 - lon1) / 2)
    haversine = half_lat**2 + math.cos(phi1) * math.cos(phi2) * half_lon**2
    return 2 * EARTH_RADIUS * math.asin(math.sqrt(min(1.0, haversine)))


def in_box(lat: float, lon: float, south: float, west: float, north: float, east: float) -> bool:
    """Whether a point lies in a box, edges included; ``west > east`` crosses the antimeridian."""
    if not south <= lat <= north:
        return False
    return west <= lon <= east if west <= east else lon >= west or lon <= east
