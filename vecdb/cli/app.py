"""All commands put together, and how a run of one ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from vecdb.cli import authors, cluster, collections, ingest, node, query, snapshot, tokens
from vecdb.cli.exits import complain, report
from vecdb.cli.help import examples
from vecdb.exit_code import ExitCode

# typer keeps click inside or outside of itself, by its version; either way
# these are the classes that its own error derives from.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]

_HELP = """A decentralized vector database: documents in, cited passages out."""


def build() -> typer.Typer:
    """The application."""
    # Plain help: rich's boxes cost a quarter of a second before the first line.
    app = typer.Typer(
        name="vecdb",
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog=examples(
            "vecdb demo",
            "vecdb serve --data-dir ./data",
            "vecdb ingest docs/ --collection docs --model wordllama-256",
            'vecdb query docs "how do snapshots work"',
        ),
    )
    node.register(app)
    ingest.register(app)
    query.register(app)
    app.add_typer(collections.build(), name="collections")
    app.add_typer(cluster.build(), name="cluster")
    app.add_typer(tokens.build(), name="tokens")
    app.add_typer(authors.build(), name="authors")
    snapshot.register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns its exit code. Never raises for what a user can cause."""
    try:
        code = typer.main.get_command(build()).main(list(arguments), prog_name="vecdb", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        return _usage(error)
    except _ClickException as error:
        complain(error.format_message())  # type: ignore[attr-defined]
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as error:
        # typer leaves in this way when a command met a broken pipe, and after
        # it has completed a word for the shell.
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_left()
        return error.code if isinstance(error.code, int) else ExitCode.OK
    except Exception as error:
        return report(error)
    return code if isinstance(code, int) else ExitCode.OK


def _reader_left() -> ExitCode:
    """The reader (head, less) has seen enough: no failure.

    Python would complain about the same pipe again at exit, so it gets another
    one to flush into.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return ExitCode.OK


def _usage(error: Exception) -> ExitCode:
    message: str = error.format_message()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(message + "\n")
        return ExitCode.USAGE
    hint = f"; see {context.command_path} --help" if context is not None else ""
    complain(message.rstrip(".") + hint)
    return ExitCode.USAGE
