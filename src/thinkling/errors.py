"""The one error that users are meant to see: a wrong field, file or setting, with its cure, in one line."""


class UserError(Exception):
    """A mistake in the recipe, the data or the machine's setup. The CLI prints the message and exits with code 2."""
