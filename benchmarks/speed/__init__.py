"""How long things take, side by side with the peer where there is one."""
