# Creates a file beside its private folder, with no name of its own until it is linked.
import os

unnamed = os.open("@PUBLIC@", os.O_TMPFILE | os.O_WRONLY, 0o600)
os.write(unnamed, b"1")
os.link(f"/proc/self/fd/{unnamed}", "@PUBLIC@/planted", src_dir_fd=unnamed)
