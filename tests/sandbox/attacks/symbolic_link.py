# Reads a file outside through a symbolic link in its own folder.
import os
from pathlib import Path

os.symlink("@SECRET_FILE@", "link")
print(Path("link").read_text())
