# Finds out whether it may signal everybody.
import os

os.kill(-1, 0)
print("BREACH")
