"""A teacher's good answers beside the student's own bad ones → a student moved to the first and off the second."""
