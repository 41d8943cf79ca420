"""Errors that a stage raises for the user; the command line prints them as one line and exits with 2."""


class StageError(Exception):
    """A stage cannot go on because of its input or parameters.

    The message is one line (or one line per problem): what is wrong, where (file, image, class, parameter),
    and what to do about it.
    """
