"""The error for users' mistakes: a one-line message that states the invalid field, file or setting and the cure."""


class UserError(Exception):
    """A mistake in the recipe, the data or the machine's setup. The command-line interface prints the message and exits
    with code 2."""
