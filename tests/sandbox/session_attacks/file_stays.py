# Leaves files, one of them open and nameless, for the next rollout.
import os

open("note", "w").write("note")
held = open("nameless", "w+")
os.unlink("nameless")
# --- next call
print(os.listdir("."))
# --- next rollout
import os

print("BREACH" if os.listdir(".") else "")
