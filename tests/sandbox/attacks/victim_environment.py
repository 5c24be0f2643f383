# Reads the environment of another process of the same user.
from pathlib import Path

print(Path("/proc/@VICTIM@/environ").read_text())
