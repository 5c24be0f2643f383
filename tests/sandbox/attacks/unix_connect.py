# Connects to a service by its path, which Landlock does not handle: the way to a desktop or to docker.
import socket

socket.socket(socket.AF_UNIX).connect("@UNIX@")
