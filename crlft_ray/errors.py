"""The one exception type that the CLI turns into exit code 2."""


class UserError(ValueError):
    """Something the user can mend: input, config or folder.

    The message names the file, the line or the config key, and says what would be right. The CLI prints it without
    a stack trace and exits with code 2; library callers catch it as the ``ValueError`` that it is.
    """
