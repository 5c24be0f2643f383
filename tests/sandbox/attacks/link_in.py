# Gives a file outside a name in its own folder, then reads it.
import os
from pathlib import Path

os.link("@VICTIM_FILE@", "linked")
print(Path("linked").read_text())
