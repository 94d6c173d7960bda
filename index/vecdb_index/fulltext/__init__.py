"""Full text: which documents have which words, and how well they answer to some.

``analysis`` makes terms of text, ``postings`` and ``merge`` keep which rows have them, ``words`` does so for
the parts of a shard, ``query`` reads what is looked for, and ``ranking`` scores by BM25.
"""

from vecdb_index.fulltext.query import WordQuery, parse_words
from vecdb_index.fulltext.ranking import WordStatistics

__all__ = ["WordQuery", "WordStatistics", "parse_words"]
