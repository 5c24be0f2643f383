"""Teacher's correct answers paired with the student's incorrect ones → a student moved toward the former."""
