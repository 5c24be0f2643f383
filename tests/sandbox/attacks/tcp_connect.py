# Connects to a local server.
import socket

socket.create_connection(("127.0.0.1", int("@TCP@")), timeout=2).sendall(b"hello")
