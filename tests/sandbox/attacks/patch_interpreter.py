# Changes the interpreter for the runs that come after.
# kind: twice
# control: none (there is no server outside that would keep the change)
import builtins
import json

if hasattr(builtins, "planted"):
    print("BREACH")
builtins.planted = True
json.dumps = lambda *a, **k: "BREACH"
