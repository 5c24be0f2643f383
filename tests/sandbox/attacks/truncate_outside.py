# Empties a file by its path, without opening it.
import os

os.truncate("@VICTIM_FILE@", 0)
