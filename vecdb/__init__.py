"""The node: a vector database server. `vecdb.cli` is its command line, `vecdb.node` what runs.

docs/architecture.md has the map.
"""
