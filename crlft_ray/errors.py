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


def reason_of(error: Exception) -> str:
    """Why a library could not read a model's files, in one line.

    transformers' configs check themselves, and name the field in the first line and the reason in the second.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    # Python's own say little without their names.
    bare = isinstance(error, (ArithmeticError, AttributeError, LookupError, TypeError)) or not reason
    return ": ".join(filter(None, [type(error).__name__ * bare, reason]))
