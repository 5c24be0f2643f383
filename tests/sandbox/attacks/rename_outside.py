# Moves a file away.
import os

os.rename("@VICTIM_FILE@", "@VICTIM_FILE@.moved")
