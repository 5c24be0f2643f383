# Changes the code that runs the calls, so that later calls of this and other rollouts run something else.
import ast
import builtins
import json
import os
import sys


def replaced(*arguments, **named):
    return "BREACH"


for module in (json, builtins, ast, os):
    for name in ("dumps", "repr", "parse", "write", "compile", "exec", "eval", "print"):
        if hasattr(module, name) and (module, name) != (builtins, "print"):
            setattr(module, name, replaced)
frame = sys._getframe()
while frame is not None:
    for name in ("_run", "read_call", "serve", "_show", "LONGEST_VALUE"):
        if name in frame.f_globals:
            frame.f_globals[name] = replaced
    frame = frame.f_back
# --- next call
print("called")
# --- next rollout
import builtins
import json

print(json.dumps(6 * 7))
print("BREACH" if json.dumps("x") != '"x"' or builtins.repr(1) != "1" else "")
