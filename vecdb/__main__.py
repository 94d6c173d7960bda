"""`python -m vecdb` is the command line."""

from vecdb.cli import main

if __name__ == "__main__":
    main()
