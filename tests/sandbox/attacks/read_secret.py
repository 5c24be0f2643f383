# Reads a file that everybody may read.
from pathlib import Path

print(Path("@SECRET_FILE@").read_text())
