"""The two exceptions that the CLI turns into one message: exit code 2 and exit code 1."""


class UserError(ValueError):
    """Something the user can mend: input, config or folder.

    The message names the file, the line or the config key, and says what would be right. The CLI prints it without
    a stack trace and exits with code 2; library callers catch it as the ``ValueError`` that it is.
    """


class TrainingFailed(RuntimeError):  # noqa: N818
    """A run that cannot go on; the message says why."""
