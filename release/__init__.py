"""What goes out: an environment for clusters, and what `make check` asks of the packages that are pinned."""
