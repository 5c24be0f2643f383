# Opens a raw socket.
# control: root (only root may)
import socket

socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
print("BREACH")
