"""Errors that the command line turns into one line and an exit code."""


class VicinalError(Exception):
    """Something failed that a traceback would not help with; exit code 1."""

    exit_code = 1


class InputError(VicinalError):
    """What the caller gave cannot be used; the message says what to do; exit code 2."""

    exit_code = 2
