"""Code shared by the training stages. `config` does not import torch; the other modules do."""
