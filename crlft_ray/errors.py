"""The exceptions that the CLI turns into one message: exit codes 2, 1 and 75."""


class UserError(ValueError):
    """Something the user can mend: input, config or folder.

    The message names the file, the line or the config key, and says what would be right. The CLI prints it without
    a stack trace and exits with code 2; library callers catch it as the ``ValueError`` that it is.
    """


class TrainingFailed(RuntimeError):  # noqa: N818
    """A run that cannot go on; the message says why."""


class Stopped(Exception):  # noqa: N818
    """A run that was asked to stop, and did after a checkpoint; the same command goes on from there. Exit code 75."""
