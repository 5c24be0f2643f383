# Finds out whether it may signal its parent.
import os

os.kill(os.getppid(), 0)
print("BREACH")
