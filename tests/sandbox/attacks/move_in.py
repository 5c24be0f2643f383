# Moves a file into its own folder.
import os
from pathlib import Path

os.rename("@VICTIM_FILE@", "taken")
print(Path("taken").read_text())
