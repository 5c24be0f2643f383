# Changes who may read a file, which Landlock does not handle.
import os

os.chmod("@VICTIM_FILE@", 0o777)
