"""Generated from proto/vecdb/v1 by `make proto`; never edited."""
