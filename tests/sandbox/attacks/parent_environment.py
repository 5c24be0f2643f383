# Reads the environment of its ancestors.
import os
from pathlib import Path

process = os.getppid()
for _ in range(3):
    print(Path(f"/proc/{process}/environ").read_text())
    process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[1])
