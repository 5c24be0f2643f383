"""What training stages share. `config` is lightweight; the other modules load torch."""
