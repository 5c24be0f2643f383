"""What the stages that train share. `config` is light; the other modules load torch."""
