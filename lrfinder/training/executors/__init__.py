"""Where plans are trained: in this process, in others of this machine, or on a cluster."""
