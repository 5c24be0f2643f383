# Changes a file's extended attributes, which Landlock does not handle.
import os

os.setxattr("@VICTIM_FILE@", "user.planted", b"1")
