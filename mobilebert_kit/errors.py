"""What can go wrong, by exit code.

A message says what was expected, what came, where, and what to do next: it is all that the user sees.

    exit code  kind              meaning
    0          -                 done
    2          InputError        wrong flags, or an input that cannot be used
    3          CheckFailed       a check failed: accuracy, delegate, integrity
    4          anything else     a defect of the kit itself
"""


class KitError(Exception):
    """Base of every error that the kit raises on purpose; `exit_code` is the process's."""

    exit_code = 4


class InputError(KitError):
    """Flags or an input file that cannot be used."""

    exit_code = 2


class CheckFailed(KitError):
    """The work was done, and its result does not pass a check."""

    exit_code = 3
