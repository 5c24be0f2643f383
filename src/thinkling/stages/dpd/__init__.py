"""Pairs of a teacher's correct answer and a student's incorrect answer → a student that is closer to the teacher."""
