# Fills the pipe of reports, so that its reader fails.
# kind: unjudged
# control: none (there is no sandbox outside)
import os

for descriptor in range(3, 16):
    try:
        os.write(descriptor, b"[" * 60000 + b"\n" + b'{"at": 1e999, "nonce": ' + b"1" * 5000 + b"}\n\xff\n")
        while True:
            os.write(descriptor, b"\n" * 60000)
    except OSError:
        continue
