# Sends to a path from a pair of sockets, which needs no socket of one's own.
import socket

one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.sendto(b"hello", "@UNIX_DATAGRAM@")
