"""Reading and cutting sources."""
