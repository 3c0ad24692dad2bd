"""The command line: one verb per stage, each calling one library function.

Results go to standard output, progress and notes to standard error. Everything heavy is imported inside the
command that needs it, so that `lookalike --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer

# The order of these imports is the order of the commands in `lookalike --help`.
from lookalike.cli import data, simulate, training, checkpoint, evaluate, probes, planning, searching, comparing  # isort: skip
from lookalike.cli import exporting, sky, serving, bench, bench_index, bench_search, bench_sky, bench_export  # isort: skip
from lookalike.cli.common import app, say
from lookalike.errors import InputError, LookalikeError, NotFoundError, StoppedError, unknown
from lookalike.wording import rule

__all__ = [
    "app",
    "bench",
    "bench_export",
    "bench_index",
    "bench_search",
    "bench_sky",
    "checkpoint",
    "comparing",
    "data",
    "evaluate",
    "exporting",
    "main",
    "planning",
    "probes",
    "searching",
    "serving",
    "simulate",
    "sky",
    "training",
]


def main() -> None:
    """Run the command; an error is one line, exit code 2 where the input was wrong, else 1."""
    # Threads that wait spinning for long starve each other on a busy machine (training beside one other job fell to
    # a third), and sleeping at once costs a third on an idle one; a short spin loses little on either. OpenMP reads
    # this when torch or faiss is loaded, so it must be said before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        result = app(arguments, prog_name="lookalike", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except typer.TyperException as error:
        message = _said(error).replace("\n", " ")
        if not message:  # no command was given: the help is already on the terminal
            sys.exit(error.exit_code)
        if "No such command" in message:
            message += f" Choices: {', '.join(_choices(error))}."
        _fail(message, error.exit_code, debug)
    except StoppedError as error:
        _fail(error.message, 130 if error.code == "interrupted" else 143, debug)
    except LookalikeError as error:
        _fail(error.message, 2 if isinstance(error, InputError | NotFoundError) else 1, debug)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130, debug)
    except BrokenPipeError:  # `| head` closed the pipe: what it wanted was printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
        sys.exit(0)
    except OSError as error:
        _fail(_refused(error), 1, debug)
    except MemoryError as error:
        _fail(f"Memory does not suffice: {str(error) or 'the system gave no more'}", 1, debug)


def _refused(error: OSError) -> str:
    """What the system refused, in words."""
    if error.errno == errno.ENOSPC:
        of_what = f", {error.filename} does not fit" if error.filename else ""
        return f"The disk is full{of_what}; make room and run the same again."
    return str(error)


def _said(error: Any) -> str:
    """What is wrong with the command line; of a value the rule and what was given, which typer leaves out.

    An option that there is not is told with those of its own command.
    """
    if hasattr(error, "possibilities"):  # typer's error for such an option; its own hints are of any spelling
        return unknown("option", error.option_name, _options(error.ctx)).message
    faults = getattr(error.__cause__, "errors", None)  # pydantic's, which typer checks values with
    if faults is None:
        return str(error.format_message())
    fault = faults()[0]
    told = rule(fault)
    before = str(error.format_message()).removesuffix(error.message)
    return f"{before}{told or fault['msg']}, but {str(fault['input'])!r} was given."


def _options(ctx: Any) -> list[str]:
    """The options of a command, each by its longest name."""
    params = (param for param in ctx.command.get_params(ctx) if param.param_type_name == "option" and not param.hidden)
    return [max(name, key=len) for param in params for name in (param.opts, param.secondary_opts) if name]


def _choices(error: Any) -> list[str]:
    """The commands of the group in which none had the name given."""
    return list(error.ctx.command.commands)


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    say(f"lookalike: {message}")
    sys.exit(code)
