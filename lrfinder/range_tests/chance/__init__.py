"""Whether a fall of the loss is learning, or chance: it is held against targets dealt out anew."""
