# Opens another process's open file through /proc.
from pathlib import Path

print(Path("/proc/@VICTIM@/fd/@VICTIM_DESCRIPTOR@").read_text())
