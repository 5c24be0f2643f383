"""The one error a user is meant to see: a wrong field, file or setting, said in a line with its cure."""


class UserError(Exception):
    """A mistake in the recipe, the data or the machine's set-up. The CLI prints the message and exits with 2."""
