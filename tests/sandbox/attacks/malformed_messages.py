# Sends its tester what is no message.
# kind: verdict
# control: none (there is no tester outside)
import os
import struct

FRAMES = [
    b"",
    b"[",
    b"null",
    b"[1]",
    b"[" * 50000,
    b'["reply","",[["l",0,[9]]],[0],[],[]]',
    b'["reply","",[["l",[]]],[0],[],[]]',
    b'["raise","",[1],[0],[],[]]',
    b'["reply","",[["handle",0,"int",true,[0]]],[0],[],[]]',
    b"\xff" * 100,
]


def target(x):
    for content in FRAMES:
        os.write(5, struct.pack("<I", len(content)) + content)
    os.write(5, b"\xff" * 64)
    print("@PASSED@", flush=True)
    os._exit(0)
