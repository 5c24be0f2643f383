# Crashes the interpreter.
# kind: unjudged
# control: none (a crash outside says nothing)
import ctypes

ctypes.string_at(0)
