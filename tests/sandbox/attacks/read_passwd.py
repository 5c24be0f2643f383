# Reads the list of users.
from pathlib import Path

if Path("/etc/passwd").read_text():
    print("BREACH")
