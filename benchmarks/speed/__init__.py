"""How long things take, compared with a peer if there is one."""
