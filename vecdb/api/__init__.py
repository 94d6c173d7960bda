"""The public API: one module a gRPC service, and what they share.

`dispatch` serves methods from the contract's descriptors, `checks` refuses bad
requests, `convert` turns messages into values and back. The services know the
wire; `vecdb.query` does the work.
"""
