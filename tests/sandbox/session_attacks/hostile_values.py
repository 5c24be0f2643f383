# The value of a last expression that is hostile, and an exception that is.
class Value:
    def __repr__(self):
        raise SystemExit(0)


Value()


# --- next call
class Odd(Exception):
    def __str__(self):
        raise Odd

    __traceback__ = property(lambda self: 1 / 0)


raise Odd
# --- next call
import sys

sys.stdout = sys.stderr = sys.displayhook = sys.excepthook = None
raise BaseException("x" * 10_000_000)
# --- next call
6 * 7
