# Finds in a second run what the first one left.
# kind: twice
import os

if os.path.exists("note"):
    print("BREACH")
open("note", "w").close()
