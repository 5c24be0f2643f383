# Removes a file.
import os

os.unlink("@VICTIM_FILE@")
