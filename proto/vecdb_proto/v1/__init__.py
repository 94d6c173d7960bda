"""Generated from the packages under proto/vecdb by `make proto`; never edited."""
