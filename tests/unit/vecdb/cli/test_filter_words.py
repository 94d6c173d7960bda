"""Filters as they are typed mean what the same filter means in Python."""

import json
from datetime import UTC, datetime

import pytest
from vecdb_client import Condition
from vecdb_client import Filter as F

from vecdb.cli.exits import CommandError
from vecdb.cli.filters import parse_filters

MAY = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year>=2020", F("year") >= 2020),
        (" year <= 2020 ", F("year") <= 2020),
        ("year>2020", F("year") > 2020),
        ("price<-1.5e3", F("price") < -1500.0),
        ("lang=en", F("lang") == "en"),
        ("lang==en", F("lang") == "en"),
        ("lang!=en", F("lang") != "en"),
        ("open=true", F("open") == True),  # noqa: E712
        ('code="7"', F("code") == "7"),
        ("title=two words", F("title") == "two words"),
        ("url=a=b", F("url") == "a=b"),
        ("empty=", F("empty") == ""),
        ("list=[1]", F("list") == "[1]"),
        ("none=null", F("none") == "null"),
        ("title^=Intro", F("title").prefix("Intro")),
        ("@source=notes/a.md", F("@source") == "notes/a.md"),
        ("a.b>=1", F("a.b") >= 1),
        ("when>@2024-05-01T00:00:00Z", F("when") > MAY),
        ('{"year": 2020}', F("year") == 2020),
        ('{"lang": ["en", "de"]}', F("lang").isin(["en", "de"])),
        ('{"year": {"$gte": 2020, "$lt": 2024}}', (F("year") >= 2020) & (F("year") < 2024)),
        ('{"a": 1, "b": 2}', (F("a") == 1) & (F("b") == 2)),
        ('{"$or": [{"a": 1}, {"b": 2, "c": 3}]}', (F("a") == 1) | ((F("b") == 2) & (F("c") == 3))),
        ('{"$and": [{"a": 1}, {"b": 2}]}', (F("a") == 1) & (F("b") == 2)),
        ('{"$not": {"a": 1}}', ~(F("a") == 1)),
        ('{"a": {"$ne": 1}}', F("a") != 1),
        ('{"a": {"$in": [1]}}', F("a").isin([1])),
        ('{"tags": {"$any": ["x"]}}', F("tags").any(["x"])),
        ('{"tags": {"$all": ["x", "y"]}}', F("tags").all(["x", "y"])),
        ('{"a": {"$exists": true}}', F("a").exists()),
        ('{"a": {"$exists": false}}', ~F("a").exists()),
        ('{"a": {"$null": true}}', F("a").is_null()),
        ('{"a": {"$prefix": "x"}}', F("a").prefix("x")),
        ('{"a": {"$match": "two words"}}', F("a").match("two words")),
        ('{"a": {"$near": {"lat": 1.5, "lon": 2, "metres": 3}}}', F("a").within(1.5, 2, 3)),
        ('{"when": {"$gt": {"$datetime": "2024-05-01T02:00:00+02:00"}}}', F("when") > MAY),
        ('{"when": {"$datetime": "2024-05-01T00:00:00Z"}}', F("when") == MAY),
    ],
)
def test_meaning(text: str, expected: Condition) -> None:
    """The message on the wire is the one that the Python filter makes."""
    condition = parse_filters([text])
    assert condition is not None
    assert condition.message() == expected.message()


def test_several_must_all_hold() -> None:
    """Each --filter narrows the answer; none leaves it as it is."""
    both = parse_filters(["a=1", '{"b": 2}'])
    assert both is not None
    assert both.message() == ((F("a") == 1) & (F("b") == 2)).message()
    assert parse_filters([]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "year",
        "=5",
        ">=5",
        "when>@2024-05-01T00:00:00",
        "when>@yesterday",
        "n=99999999999999999999",
        "n>NaN",
        "{",
        "{}",
        '{"a": null}',
        '{"a": {"b": 1}}',
        '{"a": {"$what": 1}}',
        '{"$what": 1}',
        '{"$or": {}}',
        '{"$or": []}',
        '{"$not": 1}',
        '{"a": {"$in": "x"}}',
        '{"a": {"$exists": 1}}',
        '{"a": {"$near": {"lat": 1}}}',
        '{"a": {"$gt": [1]}}',
        '{"": 1}',
        "{" * 100_000,
        json.dumps({"$not": {}}),
    ],
)
def test_refusals(text: str) -> None:
    """What cannot be read is refused with the option's name, never guessed at, never a traceback."""
    with pytest.raises(CommandError, match=r"^--filter ") as caught:
        parse_filters([text])
    assert len(str(caught.value)) < 400


def test_deep_nesting_is_an_error() -> None:
    """Nesting beyond Python's stack is refused like everything else."""
    text = '{"$not":' * 5_000 + '{"a": 1}' + "}" * 5_000
    with pytest.raises(CommandError, match=r"^--filter "):
        parse_filters([text])
