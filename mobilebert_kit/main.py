"""How a command of the kit starts and ends: flags in, exit code out (see errors.py for the codes)."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

from absl import flags

from mobilebert_kit.errors import InputError, KitError

_HELP = ("-h", "-?", "-help", "--help")
_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}


def run(
    main: Callable[..., None], argv: Sequence[str] | None = None, *, arguments: Sequence[str] = ()
) -> None:
    """Parse absl's flags, call `main`, and end the process with 0, 2, 3 or 4, 130 or 143 (interrupted), 141
    (whoever read the output is gone, as behind `| head`).

    arguments: what the command takes besides flags, by the names that errors call them; `main` gets them.
    absl.app.run would end with 1 for a wrong flag. SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so
    that temporary files go.
    """
    sys.exit(_exit_code(main, list(sys.argv if argv is None else argv), arguments))


def _exit_code(main: Callable[..., None], argv: list[str], arguments: Sequence[str]) -> int:
    try:
        for number in (*_SIGNALS, signal.SIGALRM):
            signal.signal(number, _stop)
        sys.unraisablehook = _stop_again
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A file's or tensor's name may have characters that the terminal's encoding lacks.
                stream.reconfigure(errors="backslashreplace")
        if any(argument in _HELP for argument in argv[1:]):
            _print_help()
            return 0
        rest = flags.FLAGS(argv)[1:]
        if len(rest) != len(arguments):
            wanted = f"{' '.join(arguments)} and flags" if arguments else "flags only"
            raise InputError(
                f"Expected {wanted} (--name value), got {' '.join(rest) or 'no argument'!r}. See --help."
            )
        main(*rest)
        sys.stdout.flush()
    except BaseException as error:  # the outermost frame
        if _stopped_by:  # whatever a library has made of _Stopped on its way
            number = _stopped_by[0]
            print(_SIGNALS[number], file=sys.stderr)
            return 128 + number
        if isinstance(error, KitError):
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        if isinstance(error, flags.Error):
            print(f"error: {error} See --help.", file=sys.stderr)
            return InputError.exit_code
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return 128 + signal.SIGPIPE
        traceback.print_exc()  # a defect of the kit, shown whole
        return KitError.exit_code
    return 0


def _reader_is_gone() -> bool:
    """Whether nobody takes what is printed. What is left of it then goes nowhere, as the process ends too."""
    output = select.poll()
    output.register(sys.stdout, 0)  # errors are told unasked
    if not output.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _print_help() -> None:
    """The command's own flags, then those that it shares with others."""
    module = sys.modules["__main__"]
    shared = [name for name in flags.FLAGS.flags_by_module_dict() if name.startswith("mobilebert_kit.")]
    told = "\n".join(map(flags.FLAGS.module_help, [module, *shared]))
    print(f"{(module.__doc__ or '').strip()}\n\nFlags:\n{told}")


class _Stopped(BaseException):
    """A signal asked the process to end. No Exception, so that nobody on its way takes it for an error."""


_stopped_by: list[int] = []


def _stop(number: int, _frame: FrameType | None) -> None:
    if number != signal.SIGALRM:
        _stopped_by.append(number)
    raise _Stopped


def _stop_again(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal that arrives in a destructor is lost there: it is raised again, a moment later."""
    if isinstance(unraisable.exc_value, _Stopped):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)
