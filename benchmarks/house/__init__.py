"""The structure of the code base."""
