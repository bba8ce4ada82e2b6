"""How a command of the kit starts and ends: flags in, exit code out (see errors.py for the codes)."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

from absl import flags

from mobilebert_kit.errors import InputError, KitError

_HELP = ("-h", "-?", "-help", "--help")
_INTERRUPTED = 128 + signal.SIGINT


def run(main: Callable[[], None], argv: Sequence[str] | None = None) -> None:
    """Parse absl's flags, call `main`, and end the process with 0, 2, 3 or 4, 130 or 143 (interrupted).

    absl.app.run would end with 1 for a wrong flag. SIGTERM unwinds the stack as Ctrl-C does, so that
    temporary files go.
    """
    sys.exit(_exit_code(main, list(sys.argv if argv is None else argv)))


def _exit_code(main: Callable[[], None], argv: list[str]) -> int:
    try:
        signal.signal(signal.SIGTERM, _terminate)
        if any(argument in _HELP for argument in argv[1:]):
            _print_help()
            return 0
        rest = flags.FLAGS(argv)[1:]
        if rest:
            raise InputError(f"Expected flags only (--name value), got {' '.join(rest)!r}. See --help.")
        main()
        sys.stdout.flush()
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except flags.Error as error:
        print(f"error: {error} See --help.", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception:  # the outermost frame: whatever comes here is a defect, and is shown whole
        traceback.print_exc()
        return KitError.exit_code
    return 0


def _print_help() -> None:
    module = sys.modules["__main__"]
    print(f"{(module.__doc__ or '').strip()}\n\nFlags:\n{flags.FLAGS.module_help(module)}")


def _terminate(number: int, _frame: FrameType | None) -> None:
    print("terminated", file=sys.stderr)
    raise SystemExit(128 + number)
