# Connects to a service by its abstract name.
import socket

socket.socket(socket.AF_UNIX).connect("\0@ABSTRACT@")
